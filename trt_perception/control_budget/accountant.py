"""Charges inference to control periods: exact busy shares over a moving window."""

from __future__ import annotations

from collections import deque

from trt_perception.control_budget.busy_timeline import BusyTimeline
from trt_perception.control_budget.control_period import ControlPeriod
from trt_perception.control_budget.figures import (
    BudgetFigures,
    LatencyFigures,
    count_over,
    longest_streak,
    share_figures,
)
from trt_perception.control_budget.period_runs import PeriodRun, period_runs
from trt_perception.control_budget.verdict import SECOND_NS, BudgetThresholds


class BudgetAccountant:
    """Takes inference intervals as they are reported and gives the busy share of each control period.

    It keeps when the device was busy (the union of the intervals), not shares: figures are computed when asked for,
    so the control period may change at any time, and the whole window is then judged by the new one. It has no clock:
    every call says what time it is. All times are integer ns on one clock.

    Adding an interval costs a binary search among the intervals held. Figures cost one pass over the intervals in
    the window, never over its periods: a gap or an inference of a billion periods is as cheap as one of two.
    """

    def __init__(
        self,
        period: ControlPeriod,
        *,
        window_ns: int = 10 * SECOND_NS,
        lateness_ns: int = SECOND_NS,
        capacity: int = 65_536,
    ) -> None:
        """`window_ns`: how far back the figures look. `lateness_ns`: an interval may be reported this long after its
        end, and its end may lie this far ahead of the time of its report (clocks of two machines). `capacity`: how
        many inferences are held at most; when that is reached the window is as short as they make it.

        Raises ValueError when the window does not hold one whole period, or the lateness is not within the window.
        """
        if not 0 <= lateness_ns <= window_ns:
            raise ValueError(f"lateness is {lateness_ns} ns; expected 0 to the window of {window_ns} ns")
        self._window_ns = window_ns
        self._lateness_ns = lateness_ns
        self._capacity = capacity
        self.set_period(period)
        self.clear()

    def clear(self) -> None:
        """Forgets everything but the settings, as after a clock was set back."""
        self._timeline = BusyTimeline(self._capacity)
        self._lengths: deque[tuple[int, int]] = deque(maxlen=self._capacity)
        self._lengths_sum_ns = 0
        self._begin_ns: int | None = None
        self._now_ns: int | None = None
        self._busy_total_ns = 0
        self._accepted_count = 0
        self._discarded_late_count = 0
        self._discarded_future_count = 0

    @property
    def period(self) -> ControlPeriod:
        """The control period that figures are computed for."""
        return self._period

    @property
    def window_ns(self) -> int:
        """How far back the figures look, ns."""
        return self._window_ns

    @property
    def busy_total_ns(self) -> int:
        """Length of the union of all intervals accepted since the start, ns."""
        return self._busy_total_ns

    @property
    def held_count(self) -> int:
        """How many disjoint busy intervals are in memory."""
        return len(self._timeline)

    def set_period(self, period: ControlPeriod) -> None:
        """Changes period and phase; the window's figures are from then on those of the new period.

        Raises ValueError when the window does not hold one whole period.
        """
        if period.period_ns > self._window_ns:
            raise ValueError(
                f"control period is {period.period_ns} ns; expected at most the window of {self._window_ns} ns: "
                "make the window longer"
            )
        self._period = period

    def add(self, start_ns: int, end_ns: int, now_ns: int) -> bool:
        """Takes the inference `[start_ns, end_ns)` reported at `now_ns`; returns whether it was accepted.

        Not accepted, and counted as such: one that ended more than the lateness before now, or ends more than that
        after now. Raises ValueError when it ends before it starts.
        """
        if end_ns < start_ns:
            raise ValueError(f"inference interval ends {start_ns - end_ns} ns before it starts; expected end >= start")
        now_ns = self.advance(now_ns)
        if end_ns < now_ns - self._lateness_ns:
            self._discarded_late_count += 1
            return False
        if end_ns > now_ns + self._lateness_ns:
            self._discarded_future_count += 1
            return False
        self._accepted_count += 1
        self._begin_ns = start_ns if self._begin_ns is None else min(self._begin_ns, start_ns)
        self._busy_total_ns += self._timeline.add(start_ns, end_ns)
        if len(self._lengths) == self._capacity:
            self._lengths_sum_ns -= self._lengths.popleft()[1]
        self._lengths.append((now_ns, end_ns - start_ns))
        self._lengths_sum_ns += end_ns - start_ns
        return True

    def advance(self, now_ns: int) -> int:
        """Says what time it is, so that what left the window is forgotten; returns the latest time said so far.

        A time up to the lateness before that is taken as that; one further back means that the clock was set back
        (a bag played again, a simulation reset), and everything is forgotten.
        """
        if self._now_ns is not None and now_ns < self._now_ns - self._lateness_ns:
            self.clear()
        self._now_ns = now_ns if self._now_ns is None else max(self._now_ns, now_ns)
        if self._begin_ns is None:
            self._begin_ns = self._now_ns
        # The window begins at most one window and one period back, and a period is no longer than the window.
        self._timeline.forget_before(self._now_ns - 2 * self._window_ns)
        while self._lengths and self._lengths[0][0] < self._now_ns - self._window_ns:
            self._lengths_sum_ns -= self._lengths.popleft()[1]
        return self._now_ns

    def shares(self, now_ns: int) -> list[tuple[int, float]]:
        """Start (ns) and busy share (0-1) of every complete period of the window, oldest first, idle ones included."""
        first, end = self._window(now_ns)
        shares = dict.fromkeys(range(first, end), 0.0)
        for run in self._runs(first, end):
            for index in range(run.first, run.end):
                shares[index] = run.busy_ns / self._period.period_ns
        return [(self._period.start_ns(index), share) for index, share in shares.items()]

    def figures(self, now_ns: int, thresholds: BudgetThresholds) -> BudgetFigures:
        """The figures over the complete periods of the window that ends at `now_ns`.

        A period whose inference is reported only later is counted by what is known so far, and rightly in the next
        figures.
        """
        period_ns = self._period.period_ns
        first, end = self._window(now_ns)
        runs = self._runs(first, end)
        busy_count = sum(run.length for run in runs)
        newest_ns = runs[-1].busy_ns if runs else 0
        newest_is_last = bool(runs) and runs[-1].end == end
        return BudgetFigures(
            period=self._period,
            window_start_ns=self._period.start_ns(first),
            window_end_ns=self._period.start_ns(end),
            busy_ns=sum(run.busy_ns * run.length for run in runs),
            all_periods=share_figures(runs, end - first - busy_count, newest_ns if newest_is_last else 0, period_ns),
            with_inference=share_figures(runs, 0, newest_ns, period_ns),
            over_warn_count=count_over(runs, thresholds.borderline_share * period_ns),
            over_error_count=count_over(runs, thresholds.over_share * period_ns),
            longest_over_streak_count=longest_streak(runs, thresholds.over_share * period_ns),
            latency=self._latency(),
            accepted_count=self._accepted_count,
            discarded_late_count=self._discarded_late_count,
            discarded_future_count=self._discarded_future_count,
        )

    def _latency(self) -> LatencyFigures | None:
        if not self._lengths:
            return None
        return LatencyFigures(
            inference_count=len(self._lengths),
            mean_ns=self._lengths_sum_ns / len(self._lengths),
            max_ns=max(length_ns for _, length_ns in self._lengths),
            last_ns=self._lengths[-1][1],
        )

    def _window(self, now_ns: int) -> tuple[int, int]:
        """Index of the window's first period and of the period after its last."""
        end = self._period.index_at(self.advance(now_ns))
        assert self._begin_ns is not None, "advance() sets it"
        first = max(end - self._window_ns // self._period.period_ns, self._period.index_at(self._begin_ns))
        if self._timeline.horizon_ns is not None:
            # Of the period that the horizon cuts, only a part is known.
            first = max(first, self._period.index_at(self._timeline.horizon_ns - 1) + 1)
        return min(first, end), end

    def _runs(self, first: int, end: int) -> list[PeriodRun]:
        inside = self._timeline.within(self._period.start_ns(first), self._period.start_ns(end))
        return period_runs(inside, self._period)
