"""Brute force for the budget accountant: looks at every nanosecond's interval and every period, one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


def union_ns(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of intervals as sorted, disjoint, non-empty ones."""
    united: list[tuple[int, int]] = []
    for start, end in sorted(interval for interval in intervals if interval[1] > interval[0]):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((start, end))
    return united


def length_ns(intervals: list[tuple[int, int]]) -> int:
    """Length of the union of intervals."""
    return sum(end - start for start, end in union_ns(intervals))


def nearest_rank(values: list[int], percent: int) -> int:
    """The smallest value that at least `percent` of the values do not exceed."""
    return next(
        value for value in sorted(values) if 100 * sum(other <= value for other in values) >= percent * len(values)
    )


@dataclass
class BudgetOracle:
    """Keeps every interval and looks at all of them each time."""

    window_ns: int
    lateness_ns: int
    accepted: list[tuple[int, int]] = field(default_factory=list)
    late_count: int = 0
    future_count: int = 0
    now_ns: int | None = None
    begin_ns: int | None = None

    def add(self, start_ns: int, end_ns: int, now_ns: int) -> bool:
        self.advance(now_ns)
        assert self.now_ns is not None and self.begin_ns is not None
        if end_ns < self.now_ns - self.lateness_ns:
            self.late_count += 1
            return False
        if end_ns > self.now_ns + self.lateness_ns:
            self.future_count += 1
            return False
        # An inference longer than two windows counts from where the memory begins.
        self.accepted.append((max(start_ns, self.now_ns - 2 * self.window_ns), end_ns))
        self.begin_ns = min(self.begin_ns, start_ns)
        return True

    def advance(self, now_ns: int) -> None:
        self.now_ns = now_ns if self.now_ns is None else max(self.now_ns, now_ns)
        self.begin_ns = self.now_ns if self.begin_ns is None else self.begin_ns

    def busy_by_period_ns(self, period_ns: int, phase_ns: int) -> list[int]:
        """Busy time of every complete period of the window, oldest first."""
        assert self.now_ns is not None and self.begin_ns is not None
        united = union_ns(self.accepted)
        busy = []
        end = (self.now_ns - phase_ns) // period_ns
        for index in range(end - self.window_ns // period_ns, end):
            start_ns = phase_ns + index * period_ns
            if start_ns + period_ns <= self.begin_ns:
                continue
            overlaps = (min(e, start_ns + period_ns) - max(s, start_ns) for s, e in united)
            busy.append(sum(overlap for overlap in overlaps if overlap > 0))
        return busy


def longest_run(flags: list[bool]) -> int:
    """The most trues in a row."""
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


def mean_share(busy_ns: list[int], period_ns: int) -> Fraction:
    """Exact mean share of the periods."""
    return Fraction(sum(busy_ns), len(busy_ns) * period_ns)
