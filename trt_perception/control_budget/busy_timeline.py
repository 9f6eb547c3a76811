"""When the device was busy: the union of inference intervals, kept sorted, disjoint and bounded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class BusyTimeline:
    """Union of half-open intervals `[start_ns, end_ns)` from a moving horizon on.

    Adding costs two binary searches; each interval that is merged away was added once, so merging costs a constant
    per interval. Intervals that arrive nearly in order touch only the end of the lists. What lies before the horizon
    is forgotten; when more than `capacity` disjoint intervals would be held, the horizon moves up over the oldest.
    """

    def __init__(self, capacity: int) -> None:
        """`capacity`: how many disjoint intervals are held at most (at least 1)."""
        if capacity < 1:
            raise ValueError(f"capacity is {capacity} intervals; expected at least 1")
        self._capacity = capacity
        self._starts: list[int] = []
        self._ends: list[int] = []
        # Entries before this index are forgotten; they are deleted in bulk, because deleting one moves all others.
        self._head = 0
        self._horizon_ns: int | None = None

    def __len__(self) -> int:
        return len(self._starts) - self._head

    @property
    def horizon_ns(self) -> int | None:
        """Time before which nothing is known any more; None while nothing was forgotten."""
        return self._horizon_ns

    def add(self, start_ns: int, end_ns: int) -> int:
        """Unites `[start_ns, end_ns)` with what is held; returns by how many ns the union grew.

        The part before the horizon is not counted: it could overlap intervals already forgotten.
        """
        if self._horizon_ns is not None:
            start_ns = max(start_ns, self._horizon_ns)
        if end_ns <= start_ns:
            return 0
        first = bisect_left(self._ends, start_ns, lo=self._head)
        last = bisect_right(self._starts, end_ns, lo=self._head)
        held_ns = 0
        if first < last:
            held_ns = sum(self._ends[i] - self._starts[i] for i in range(first, last))
            start_ns = min(start_ns, self._starts[first])
            end_ns = max(end_ns, self._ends[last - 1])
        self._starts[first:last] = [start_ns]
        self._ends[first:last] = [end_ns]
        if len(self) > self._capacity:
            self.forget_before(self._ends[self._head])
        return end_ns - start_ns - held_ns

    def forget_before(self, horizon_ns: int) -> None:
        """Moves the horizon up to `horizon_ns` and forgets what lies before it; never moves it back."""
        if self._horizon_ns is not None and horizon_ns <= self._horizon_ns:
            return
        self._horizon_ns = horizon_ns
        while self._head < len(self._ends) and self._ends[self._head] <= horizon_ns:
            self._head += 1
        if 2 * self._head > len(self._ends):
            del self._starts[: self._head]
            del self._ends[: self._head]
            self._head = 0

    def within(self, from_ns: int, to_ns: int) -> Iterator[tuple[int, int]]:
        """The busy intervals `(start_ns, end_ns)` inside `[from_ns, to_ns)`, in order, cut at its ends."""
        index = bisect_right(self._ends, from_ns, lo=self._head)
        while index < len(self._starts) and self._starts[index] < to_ns:
            yield max(self._starts[index], from_ns), min(self._ends[index], to_ns)
            index += 1
