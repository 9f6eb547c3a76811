"""Whether the control loop can live with the inference: three levels, with hysteresis so that they do not flap."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

SECOND_NS = 1_000_000_000


class Verdict(IntEnum):
    """The verdict, numbered like the levels of diagnostic_msgs (OK, WARN, ERROR, STALE); worse is higher.

    UNKNOWN is the highest on purpose: a controller that degrades from some level up also degrades when nothing is
    known.
    """

    REAL_TIME = 0
    BORDERLINE = 1
    OVER_BUDGET = 2
    UNKNOWN = 3

    @property
    def label(self) -> str:
        """The name as it is shown: `real_time`, `borderline`, `over_budget`, `unknown`."""
        return self.name.lower()


@dataclass(frozen=True)
class BudgetThresholds:
    """Where the levels begin, as shares of the control period, and how hard it is to leave one downwards.

    The level rises as soon as the share reaches `borderline_share` or `over_share`. It falls only when the share has
    stayed below the threshold by more than `margin_share` for `hold_ns`: the margin keeps a share that hovers at
    the threshold from flapping, the hold keeps rare outliers from doing so as they enter and leave the window's p99.

    Raises ValueError unless 0 <= margin_share < borderline_share < over_share <= 1 and hold_ns >= 0.
    """

    borderline_share: float = 0.25
    over_share: float = 0.80
    margin_share: float = 0.02
    hold_ns: int = 2 * SECOND_NS

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin_share < self.borderline_share < self.over_share <= 1.0:
            raise ValueError(
                f"thresholds are margin {self.margin_share}, borderline {self.borderline_share}, over "
                f"{self.over_share}; expected 0 <= margin < borderline < over <= 1"
            )
        if self.hold_ns < 0:
            raise ValueError(f"hold is {self.hold_ns} ns; expected 0 or more")

    def level(self, share: float) -> Verdict:
        """The level of `share` by the thresholds alone."""
        if share >= self.over_share:
            return Verdict.OVER_BUDGET
        return Verdict.BORDERLINE if share >= self.borderline_share else Verdict.REAL_TIME


class VerdictTracker:
    """Follows the p99 share over time and says the verdict, with the hysteresis of `BudgetThresholds`."""

    def __init__(self, thresholds: BudgetThresholds) -> None:
        self.thresholds = thresholds
        self._verdict = Verdict.UNKNOWN
        self._low_since_ns: int | None = None
        self._low_worst = Verdict.REAL_TIME

    @property
    def verdict(self) -> Verdict:
        """The verdict of the last update; UNKNOWN before the first."""
        return self._verdict

    def update(self, p99_share: float | None, now_ns: int) -> Verdict:
        """Takes the p99 share at `now_ns` (any clock that does not go back) and returns the verdict.

        None (no inference in the window, or no known period) makes the verdict UNKNOWN at once; the next share then
        sets it by the thresholds alone.
        """
        if p99_share is None:
            self._verdict, self._low_since_ns = Verdict.UNKNOWN, None
            return self._verdict
        if self._verdict is Verdict.UNKNOWN or self.thresholds.level(p99_share) >= self._verdict:
            self._verdict, self._low_since_ns = self.thresholds.level(p99_share), None
            return self._verdict
        lower = self.thresholds.level(p99_share + self.thresholds.margin_share)
        if lower >= self._verdict:
            self._low_since_ns = None
            return self._verdict
        if self._low_since_ns is None:
            self._low_since_ns, self._low_worst = now_ns, lower
        self._low_worst = max(self._low_worst, lower)
        if now_ns - self._low_since_ns >= self.thresholds.hold_ns:
            self._verdict, self._low_since_ns = self._low_worst, None
        return self._verdict


def budget_sentence(
    detector_count: int,
    mean_share: float,
    p99_share: float,
    latency_ratio: float | None,
    period_ns: int,
    verdict: Verdict,
) -> str:
    """One plain sentence, e.g. "inference uses 33.9 % of the 20.0 ms control period (p99 41 %): borderline".

    The shares (0-1) are over the periods with inference. Of one detector the first number is the mean inference over
    the period, `latency_ratio`, which is what a person expects; it says nothing of several at once, so of those it is
    the mean share. It is the mean share, too, where the ratio is None.
    """
    who = "inference uses" if detector_count == 1 else f"{detector_count} detectors together use"
    return (
        f"{who} {100 * typical_share(detector_count, mean_share, latency_ratio):.1f} % of the {period_ns / 1e6:.1f} ms "
        f"control period (p99 {100 * p99_share:.0f} %): {verdict.label}"
    )


def typical_share(detector_count: int, mean_share: float, latency_ratio: float | None) -> float:
    """The first number of budget_sentence, as a share (0-1)."""
    return mean_share if latency_ratio is None or detector_count != 1 else latency_ratio
