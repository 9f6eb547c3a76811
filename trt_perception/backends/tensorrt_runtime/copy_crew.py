"""Threads that copy beside the calling one, since one core alone does not fill the memory's bandwidth."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession

_MOST_HELPERS = 3
_CORES_A_HELPER = 4


def helpers_for(copy_threads: int) -> int:
    """How many threads help: copy_threads counts the calling one, 0 leaves three of four cores to others."""
    wanted = copy_threads - 1 if copy_threads else (os.cpu_count() or 1) // _CORES_A_HELPER - 1
    return max(min(wanted, _MOST_HELPERS), 0)


class CopyCrew:
    """`run` returns when all jobs are done. Locks instead of a queue: they wake a thread in the fewest steps."""

    def __init__(self, session: CudaSession, helpers: int) -> None:
        """The threads have the session's context current, so that their jobs may queue copies."""
        self._session = session
        self._jobs: list[Callable[[], None] | None] = [None] * helpers
        self._errors: list[BaseException] = []
        self._go = [threading.Lock() for _ in range(helpers)]
        self._done = [threading.Lock() for _ in range(helpers)]
        for lock in (*self._go, *self._done):
            lock.acquire()
        self._threads = [
            threading.Thread(target=self._work, args=(index,), name=f"copy {index}", daemon=True)
            for index in range(helpers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> int:
        """How many jobs run at once."""
        return 1 + len(self._threads)

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """1 to `size` jobs, the first by the calling thread; raises what one of them raised."""
        helped = range(len(jobs) - 1)
        for index in helped:
            self._jobs[index] = jobs[index + 1]
            self._go[index].release()
        try:
            jobs[0]()
        finally:
            for index in helped:
                self._done[index].acquire()
        if self._errors:
            raise self._errors.pop()

    def close(self) -> None:
        """Ends the threads; a second call does nothing."""
        for index, thread in enumerate(self._threads):
            self._jobs[index] = None
            self._go[index].release()
            thread.join()
        self._threads.clear()

    def _work(self, index: int) -> None:
        with self._session.current():
            while True:
                self._go[index].acquire()
                job = self._jobs[index]
                if job is None:
                    return
                try:
                    job()
                except BaseException as error:
                    self._errors.append(error)
                finally:
                    self._done[index].release()
