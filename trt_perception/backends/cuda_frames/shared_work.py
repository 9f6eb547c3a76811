"""A second thread that takes its part of what is to do for each frame of a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress


class SharedWork:
    """The thread starts when it is first needed and waits between the batches; close() ends it."""

    def __init__(self) -> None:
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="frame_copy")

    def each(self, work: Callable[[int], None], places: Sequence[int]) -> None:
        """work(place) for each of them on both threads, in any order; on the caller's alone where no other starts.

        Returns, or raises what a work raised, when neither thread works any more; an interrupt too waits for that.
        """
        left = deque(places)
        beside: Future[None] | None = None
        error: BaseException | None = None
        try:
            # RuntimeError: the system has no thread left, or the interpreter is about to end.
            with suppress(RuntimeError):
                beside = self._beside.submit(_take_turns, left, work)
            _take_turns(left, work)
        finally:
            # What a thread finds that starts later, after an error too.
            left.clear()
            error = None if beside is None else _settled(beside)
        try:
            if error is not None:
                raise error
        finally:
            # The error knows this frame, which would know the error: a circle that keeps the frames' memory.
            del beside, error

    def close(self) -> None:
        """Waits for the thread's end; a second call does nothing."""
        self._beside.shutdown()


def _take_turns(left: deque[int], work: Callable[[int], None]) -> None:
    while True:
        try:
            place = left.popleft()
        except IndexError:
            return
        work(place)


def _settled(beside: Future[None]) -> BaseException | None:
    """Its error when it is over; one that has not begun has nothing left to do and is not waited for."""
    interrupt: KeyboardInterrupt | None = None
    while not beside.cancel():
        try:
            error = beside.exception()
        except KeyboardInterrupt as caught:
            interrupt = caught
            continue
        return interrupt or error
    return interrupt
