"""Several detectors on one control loop: each one's budget, and that of all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trt_perception.control_budget.accountant import BudgetAccountant
from trt_perception.control_budget.control_period import ControlPeriod
from trt_perception.control_budget.figures import BudgetFigures
from trt_perception.control_budget.verdict import (
    SECOND_NS,
    BudgetThresholds,
    Verdict,
    VerdictTracker,
    budget_sentence,
)


@dataclass(frozen=True)
class BudgetReport:
    """Figures, verdict and the sentence that says both, for one detector or for all together."""

    figures: BudgetFigures
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class UnitedReport:
    """Reports by topic, and their total: busy time of several detectors at once counts once.

    `thresholds` and `window_ns` are what they were computed with.
    """

    thresholds: BudgetThresholds
    window_ns: int
    total: BudgetReport
    by_topic: Mapping[str, BudgetReport]


class _Account:
    """One accountant with its verdict."""

    def __init__(self, accountant: BudgetAccountant, thresholds: BudgetThresholds) -> None:
        self.accountant = accountant
        self.tracker = VerdictTracker(thresholds)

    def report(self, now_ns: int, detector_count: int = 1) -> BudgetReport:
        figures = self.accountant.figures(now_ns, self.tracker.thresholds)
        shares = figures.with_inference
        verdict = self.tracker.update(None if shares is None else shares.p99_share, now_ns)
        if shares is None:
            return BudgetReport(figures, verdict, f"no inference within the last {self.accountant.window_ns / 1e9:g} s")
        sentence = budget_sentence(
            detector_count,
            shares.mean_share,
            shares.p99_share,
            figures.latency_ratio,
            figures.period.period_ns,
            verdict,
        )
        return BudgetReport(figures, verdict, sentence)


class UnitedBudget:
    """Keeps the detectors apart by topic and unites them in a total.

    The set of topics is fixed, so memory is bounded. All times are integer ns on one clock; every call says the time.
    """

    def __init__(
        self,
        topics: Sequence[str],
        period: ControlPeriod,
        *,
        thresholds: BudgetThresholds | None = None,
        window_ns: int = 10 * SECOND_NS,
        lateness_ns: int = SECOND_NS,
    ) -> None:
        """`topics`: one or more different names; `window_ns` and `lateness_ns` as for `BudgetAccountant`.

        Raises ValueError when there is no topic, or one twice.
        """
        if not topics or len(set(topics)) != len(topics):
            raise ValueError(f"latency topics are {list(topics)}; expected one or more, each once")
        thresholds = thresholds or BudgetThresholds()

        def account() -> _Account:
            return _Account(BudgetAccountant(period, window_ns=window_ns, lateness_ns=lateness_ns), thresholds)

        self._by_topic = {topic: account() for topic in topics}
        # What one detector takes is the total.
        self._total = account() if len(topics) > 1 else self._by_topic[topics[0]]

    @property
    def period(self) -> ControlPeriod:
        """The control period that reports are computed for."""
        return self._total.accountant.period

    def set_period(self, period: ControlPeriod) -> None:
        """Changes period and phase for all; see `BudgetAccountant.set_period`."""
        for account in self._accounts():
            account.accountant.set_period(period)

    def set_thresholds(self, thresholds: BudgetThresholds) -> None:
        """Changes where the levels begin, for all."""
        for account in self._accounts():
            account.tracker.thresholds = thresholds

    def add(self, topic: str, start_ns: int, end_ns: int, now_ns: int) -> bool:
        """Takes an inference `[start_ns, end_ns)` reported on `topic` at `now_ns`; returns whether it was accepted."""
        if topic not in self._by_topic:
            raise KeyError(f"topic is {topic!r}; expected one of {', '.join(self._by_topic)}")
        accepted = self._by_topic[topic].accountant.add(start_ns, end_ns, now_ns)
        if len(self._by_topic) > 1:
            self._total.accountant.add(start_ns, end_ns, now_ns)
        return accepted

    def shares(self, now_ns: int) -> list[tuple[int, float]]:
        """Start (ns) and busy share (0-1) of every complete period of the window, of all detectors together."""
        return self._total.accountant.shares(now_ns)

    def report(self, now_ns: int) -> UnitedReport:
        """The reports at `now_ns`; they take one step of the hysteresis, so ask at a steady rate."""
        by_topic = {topic: account.report(now_ns) for topic, account in self._by_topic.items()}
        if len(by_topic) > 1:
            total = self._total.report(now_ns, detector_count=len(by_topic))
        else:
            (total,) = by_topic.values()
        return UnitedReport(self._total.tracker.thresholds, self._total.accountant.window_ns, total, by_topic)

    def _accounts(self) -> list[_Account]:
        return [self._total, *self._by_topic.values()]
