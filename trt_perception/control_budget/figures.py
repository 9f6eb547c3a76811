"""The figures that the budget monitor reports over its window, and how they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_perception.control_budget.control_period import ControlPeriod
from trt_perception.control_budget.period_runs import PeriodRun


@dataclass(frozen=True)
class ShareFigures:
    """Busy shares of a set of control periods (0 = idle, 1 = busy throughout).

    Percentiles are nearest-rank: p99 of n periods is the ceil(0.99 n)-th smallest share, so it is always a share
    that really occurred. `last_share` is the share of the newest period of the set.
    """

    period_count: int
    mean_share: float
    p50_share: float
    p95_share: float
    p99_share: float
    max_share: float
    last_share: float


@dataclass(frozen=True)
class LatencyFigures:
    """Lengths (ns) of the inferences that arrived within the window, whatever periods they fall in."""

    inference_count: int
    mean_ns: float
    max_ns: int
    last_ns: int


@dataclass(frozen=True)
class BudgetFigures:
    """What inference took from the control periods of one window.

    The window is the complete periods in `[window_start_ns, window_end_ns)`; the period in progress is not in it.
    `all_periods` is None while no period is complete, `with_inference` while none had any inference, `latency` while
    no inference arrived within the window. A period is over a threshold when its share is at or above it.
    The counts of intervals are since the start.
    """

    period: ControlPeriod
    window_start_ns: int
    window_end_ns: int
    busy_ns: int
    all_periods: ShareFigures | None
    with_inference: ShareFigures | None
    over_warn_count: int
    over_error_count: int
    longest_over_streak_count: int
    latency: LatencyFigures | None
    accepted_count: int
    discarded_late_count: int
    discarded_future_count: int

    @property
    def headroom_p99_ns(self) -> float | None:
        """What the p99 period with inference leaves of the control period, ns; None without inference."""
        if self.with_inference is None:
            return None
        return (1.0 - self.with_inference.p99_share) * self.period.period_ns

    @property
    def latency_ratio(self) -> float | None:
        """Mean inference length over the period: the simple ratio, blind to overlap, phase and several a period."""
        return None if self.latency is None else self.latency.mean_ns / self.period.period_ns


def share_figures(runs: Sequence[PeriodRun], idle_count: int, last_busy_ns: int, period_ns: int) -> ShareFigures | None:
    """Figures over the periods of `runs` and `idle_count` idle ones; None when that is no period at all."""
    by_share = sorted((run.busy_ns, run.length) for run in runs)
    if idle_count:
        by_share.insert(0, (0, idle_count))
    total = sum(count for _, count in by_share)
    if total == 0:
        return None

    def nearest_rank_share(percent: int) -> float:
        rank = -(-percent * total // 100)
        seen = 0
        for busy_ns, count in by_share:
            seen += count
            if seen >= rank:
                return busy_ns / period_ns
        raise AssertionError("a rank is at most the number of periods")

    return ShareFigures(
        period_count=total,
        mean_share=sum(busy_ns * count for busy_ns, count in by_share) / (total * period_ns),
        p50_share=nearest_rank_share(50),
        p95_share=nearest_rank_share(95),
        p99_share=nearest_rank_share(99),
        max_share=by_share[-1][0] / period_ns,
        last_share=last_busy_ns / period_ns,
    )


def count_over(runs: Sequence[PeriodRun], busy_ns: float) -> int:
    """How many periods were busy for `busy_ns` or longer."""
    return sum(run.length for run in runs if run.busy_ns >= busy_ns)


def longest_streak(runs: Sequence[PeriodRun], busy_ns: float) -> int:
    """The most periods in a row that were each busy for `busy_ns` or longer."""
    longest = 0
    streak_first: int | None = None
    previous_end: int | None = None
    for run in runs:
        if run.busy_ns < busy_ns:
            continue
        if streak_first is None or run.first != previous_end:
            streak_first = run.first
        previous_end = run.end
        longest = max(longest, run.end - streak_first)
    return longest
