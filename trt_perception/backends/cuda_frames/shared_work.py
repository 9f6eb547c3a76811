"""A second thread that takes its part of what is to do for each frame of a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class SharedWork:
    """The thread starts when it is first needed and waits between the batches; close() ends it."""

    def __init__(self) -> None:
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="frame_copy")

    def each(self, work: Callable[[int], None], count: int) -> None:
        """work(0) to work(count - 1) on both threads, in any order.

        Returns, or raises what a work raised, when neither thread works any more.
        """
        left = deque(range(count))
        beside = self._beside.submit(_take_turns, left, work)
        try:
            _take_turns(left, work)
        finally:
            left.clear()
            # One that did not wake up in time has nothing left to do and is not waited for.
            error = None if beside.cancel() else beside.exception()
        if error is not None:
            raise error

    def close(self) -> None:
        """Waits for the thread's end; a second call does nothing."""
        self._beside.shutdown()


def _take_turns(left: deque[int], work: Callable[[int], None]) -> None:
    while True:
        try:
            index = left.popleft()
        except IndexError:
            return
        work(index)
