"""Threads that take their part of what is to do for each frame of a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

# Beside the calling thread.
_THREADS = 1


class SharedWork:
    """The threads start when they are first needed and wait between the batches; close() ends them."""

    def __init__(self) -> None:
        self._beside = ThreadPoolExecutor(_THREADS, thread_name_prefix="frame_copy")

    def each(self, work: Callable[[int], None], places: Sequence[int]) -> None:
        """work(place) for each of them on several threads, in any order.

        Returns, or raises what a work raised, when no thread works any more.
        """
        left = deque(places)
        beside = [self._beside.submit(_take_turns, left, work) for _ in range(min(_THREADS, len(places) - 1))]
        try:
            _take_turns(left, work)
        finally:
            left.clear()
            # One that did not wake up in time has nothing left to do and is not waited for.
            errors = [future.exception() for future in beside if not future.cancel()]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """Waits for the threads' end; a second call does nothing."""
        self._beside.shutdown()


def _take_turns(left: deque[int], work: Callable[[int], None]) -> None:
    while True:
        try:
            place = left.popleft()
        except IndexError:
            return
        work(place)
