"""Which of several backends runs: down the list when one fails, up again when a better one can be opened."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trt_perception.detector import Detector, WarmUp
from trt_perception.errors import PerceptionError

_REQUEST_TIMEOUT_S = 600.0  # a backend that is opened on request may load a large model


@dataclass(frozen=True)
class FallbackPolicy:
    """When another backend runs.

    allowed: False keeps to the first backend; when that fails the host is told, and nothing else happens.
    max_consecutive_errors: so many frames in a row that fail make the backend a failed one; 0: never.
    retry_s: a backend that failed is left alone for so long, then tried again; 0: until retry() is called.
    keep_warm: the next backend is kept open and warmed up beside the one that runs, which takes its memory twice
    and makes the change one frame long.
    """

    allowed: bool = False
    max_consecutive_errors: int = 5
    retry_s: float = 60.0
    keep_warm: bool = False


@dataclass(frozen=True, eq=False)
class Opened:
    """A detector that has been opened and warmed up."""

    detector: Detector
    warm_up: WarmUp


class ChainHost(Protocol):
    """What runs the detector; called on the chain's thread."""

    def open_backend(self, index: int) -> Opened:
        """Opens and warms up the backend of that place in the list; an error says why it cannot run."""

    def install(self, opened: Opened, announcement: str) -> Detector:
        """Puts it to work between two frames and says so; returns the one that ran, which the chain closes."""

    def report(self, message: str) -> None:
        """Something about a backend that did not change what runs."""

    def gave_up(self, reason: str) -> None:
        """The only backend that may run has failed."""


@dataclass(frozen=True)
class _Failure:
    at_s: float
    reason: str


class FallbackChain:
    """Watches the outcome of every frame and changes the backend on a thread of its own, between start() and stop().

    With nothing left to change to, the one that runs stays at work, its frames are counted as failed, and every
    backend is tried again when its retry_s is over. Opening takes its time, in which no frame is kept waiting.
    """

    def __init__(self, backends: Sequence[str], index: int, policy: FallbackPolicy, host: ChainHost) -> None:
        """index: place in `backends` of the one that runs; those before it count as failed just now."""
        self._backends = list(backends)
        self._index = index
        self._policy = policy
        self._host = host
        now_s = time.monotonic()
        self._failures = {i: _Failure(now_s, "it could not be opened") for i in range(index)}
        self._spare: tuple[int, Opened] | None = None
        self._wake = threading.Condition()
        self._in_a_row = 0
        # Why the one that runs counts as failed, and whether that is still to be acted upon.
        self._failed: Exception | None = None
        self._fall_due = False
        self._requests: list[threading.Event] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fallback", daemon=True)
        # How often the backend was changed since start(), and the announcement of the last change.
        self.changes = 0
        self.last_change = ""

    def start(self) -> None:
        """Starts the thread; once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the backend that it may be opening, and closes the spare one."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._drop_spare()

    def frame_ended(self, error: Exception | None) -> None:
        """Call it after every inference; returns at once."""
        with self._wake:
            if error is None:
                self._works()
                return
            self._in_a_row += 1
            limit = self._policy.max_consecutive_errors
            if limit and self._in_a_row >= limit and self._failed is None:
                self._failed = error
                self._fall_due = True
                self._wake.notify()

    def retry(self) -> None:
        """Tries the better backends now, whatever became of them before; returns when that is done."""
        done = threading.Event()
        with self._wake:
            if self._stopping:
                return
            self._requests.append(done)
            self._wake.notify()
        done.wait(_REQUEST_TIMEOUT_S)

    def _works(self) -> None:
        self._in_a_row = 0
        self._failed = None
        self._fall_due = False

    # --- on the chain's thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._stopping or self._requests) and (wait_s := self._next_work_s()) > 0:
                    self._wake.wait(min(wait_s, threading.TIMEOUT_MAX))
                requests, self._requests = self._requests, []
                failed, self._fall_due = self._failed, False
                stopping = self._stopping
            if requests:
                self._failures.clear()
            if not stopping:
                self._act(failed)
            for request in requests:
                request.set()
            if stopping:
                return

    def _act(self, failed: Exception | None) -> None:
        try:
            if failed is not None:
                self._fall(failed)
            elif candidates := self._rested(range(self._index)):
                self._install_first(candidates, "it works again")
            elif (spare := self._spare_wanted()) is not None:
                opened = self._open(spare)
                self._spare = None if opened is None else (spare, opened)
        # A thread that died of a library's error would never change the backend again.
        except Exception as error:
            now_s = time.monotonic()
            self._failures = {i: _Failure(now_s, str(error)) for i in range(len(self._backends))}
            self._host.report(f"unexpected {type(error).__name__} while the backend was changed: {error}")

    def _next_work_s(self) -> float:
        """How long there is nothing to do; infinite while nothing is to come."""
        if self._fall_due or self._spare_wanted() is not None:
            return 0.0
        awaited = range(len(self._backends)) if self._failed is not None else range(self._index)
        return min((self._rest_s(i) for i in awaited), default=math.inf)

    def _rest_s(self, index: int) -> float:
        """How long a backend is still left alone."""
        failure = self._failures.get(index)
        if not self._policy.allowed:
            return math.inf
        if failure is None:
            return 0.0
        if self._policy.retry_s <= 0:
            return math.inf
        return max(failure.at_s + self._policy.retry_s - time.monotonic(), 0.0)

    def _rested(self, indices: Sequence[int]) -> list[int]:
        return [i for i in indices if self._rest_s(i) <= 0]

    def _fall(self, error: Exception) -> None:
        """The backend that runs has failed: the spare one, else the first that opens, at last itself anew."""
        ran = self._index
        candidates = self._rested([*self._others(), ran])
        if self._spare is not None and self._spare[0] in candidates:
            candidates.insert(0, self._spare[0])
        reason = f"{self._in_a_row} frames in a row failed: {error}"
        self._failures[ran] = _Failure(time.monotonic(), reason)
        if not self._policy.allowed:
            self._host.gave_up(f"{self._backends[ran]}: {reason}")
        elif not self._install_first(candidates, reason):
            self._host.report(f"{self._backends[ran]}: {reason}; no other backend can run now")

    def _install_first(self, candidates: Sequence[int], reason: str) -> bool:
        for index in candidates:
            opened = self._open(index)
            if opened is not None:
                self._install(index, opened, reason)
                return True
        return False

    def _open(self, index: int) -> Opened | None:
        if self._spare is not None and self._spare[0] == index:
            (_, opened), self._spare = self._spare, None
            return opened
        try:
            return self._host.open_backend(index)
        except Exception as error:  # as in _act
            self._failures[index] = _Failure(time.monotonic(), str(error))
            self._host.report(f"{self._backends[index]} cannot run: {error}")
            return None

    def _install(self, index: int, opened: Opened, reason: str) -> None:
        with self._wake:
            stopping = self._stopping
        if stopping:
            close_or_report(opened.detector, self._host.report)
            return
        ran, wanted = self._backends[self._index], self._backends[0]
        opened.detector.backend_index = index
        if index > 0:
            why = self._failures[0].reason if 0 in self._failures else reason
            opened.detector.explain_fallback(f"runs {self._backends[index]} instead of {wanted}: {why}")
        again = "again, opened anew" if index == self._index else f"instead of {ran}"
        self.last_change = f"runs {self._backends[index]} {again}: {reason}"
        self.changes += 1
        old = self._host.install(opened, self.last_change)
        self._index = index
        with self._wake:
            self._works()
        close_or_report(old, self._host.report)

    def _others(self) -> list[int]:
        return [i for i in range(len(self._backends)) if i != self._index]

    def _spare_wanted(self) -> int | None:
        """The backend to open beside the one that runs, None when there is none to be had or it is open."""
        if not self._policy.keep_warm or self._spare is not None:
            return None
        return next(iter(self._rested(self._others())), None)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            close_or_report(self._spare[1].detector, self._host.report)
            self._spare = None


def close_or_report(detector: Detector, report: Callable[[str], None]) -> None:
    """Closes a detector that another one has replaced: what fails then (a profile that cannot be written) is told, and
    no reason to leave the one that works.
    """
    try:
        detector.close()
    except PerceptionError as error:
        report(f"closed with an error: {error}")
