"""From busy intervals to busy time per control period, as runs of equal periods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from trt_perception.control_budget.control_period import ControlPeriod


class PeriodRun(NamedTuple):
    """`length` control periods in a row, from index `first` on, each busy for `busy_ns` (1 to the period, ns).

    A tuple, because a report makes one or two for each inference of the window.
    """

    first: int
    length: int
    busy_ns: int

    @property
    def end(self) -> int:
        """Index of the period after the run."""
        return self.first + self.length


def period_runs(intervals_ns: Iterable[tuple[int, int]], period: ControlPeriod) -> list[PeriodRun]:
    """Splits sorted, disjoint busy intervals `(start_ns, end_ns)` over the control periods they overlap.

    Returns the periods with any busy time in order; idle periods are the gaps between the runs. An interval makes at
    most three runs however many periods it spans: a part, whole periods, a part.
    """
    runs: list[PeriodRun] = []

    def charge(index: int, length: int, busy_ns: int) -> None:
        if runs and runs[-1].first == index:
            busy_ns += runs.pop().busy_ns
        runs.append(PeriodRun(index, length, busy_ns))

    for start_ns, end_ns in intervals_ns:
        first = period.index_at(start_ns)
        last = period.index_at(end_ns - 1)
        if first == last:
            charge(first, 1, end_ns - start_ns)
            continue
        charge(first, 1, period.start_ns(first + 1) - start_ns)
        if last > first + 1:
            charge(first + 1, last - first - 1, period.period_ns)
        charge(last, 1, end_ns - period.start_ns(last))
    return runs
