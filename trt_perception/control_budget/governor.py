"""Holds inference at or below a share of the time by skipping frames."""

from __future__ import annotations

import threading
from collections import deque
from fractions import Fraction

from trt_perception.control_budget.verdict import SECOND_NS


class InferenceGovernor:
    """Decides for each frame whether to run it, so that inference takes at most a share of the time.

    Each inference of length d moves the next permitted start d / share further on, so frames are spread evenly and
    the newest frame is always the one that runs: the caller keeps no queue, a frame that is refused is dropped. Up to
    one such spacing may be caught up, or the share would fall short whenever frames do not come exactly when
    permitted. A sum over the rolling window keeps the catching up from exceeding the share; it assumes that the next
    inference takes as long as the last. A frame may be let through ahead of its time; what it takes is missing to
    those after it, so that the share holds on average, and a window exceeds it by no more than those inferences. No
    clock: every call says the time, integer ns of one monotonic clock. Any thread may call.
    """

    def __init__(self, max_share: float, *, window_ns: int = 10 * SECOND_NS) -> None:
        """`max_share`: 0-1, 0 = off, everything runs. `window_ns`: over what the share is measured.

        Raises ValueError when the share is not within 0-1 or the window is not at least 1 ns.
        """
        if window_ns < 1:
            raise ValueError(f"governor window is {window_ns} ns; expected at least 1 ns")
        self._window_ns = window_ns
        self._lock = threading.Lock()
        self._runs: deque[tuple[int, int]] = deque()
        self._runs_sum_ns = 0
        self._next_start_ns: int | None = None
        self._last_length_ns = 0
        self._spacing_ns = 0
        self._skipped_count = 0
        self.max_share = max_share

    @property
    def max_share(self) -> float:
        """Largest share of the time that inference may take, 0-1; 0 = off. May be set at any time."""
        return self._max_share

    @max_share.setter
    def max_share(self, max_share: float) -> None:
        if not 0.0 <= max_share <= 1.0:
            raise ValueError(f"max share is {max_share}; expected 0 (off) to 1")
        with self._lock:
            self._max_share = max_share
            # The decimal that was meant, so that the spacing is exact: 30 ms at 0.2 is 150 ms, and not 1 ns more.
            self._exact_share = Fraction(repr(float(max_share)))
            self._next_start_ns = None

    @property
    def skipped_count(self) -> int:
        """How many frames were refused since the start."""
        return self._skipped_count

    def allows(self, now_ns: int, *, ahead: int = 0) -> bool:
        """Whether a frame may run now; a refusal is counted as a skipped frame.

        ahead: how many inferences more than there is time for may have run then; they take as long as the last.
        """
        with self._lock:
            if self._exact_share == 0:
                return True
            early_ns = ahead * self._spacing_ns
            too_early = self._next_start_ns is not None and now_ns < self._next_start_ns - early_ns
            if too_early or self._window_is_full(now_ns, ahead):
                self._skipped_count += 1
                return False
            return True

    def finished(self, start_ns: int, end_ns: int) -> None:
        """Takes an inference that ran in `[start_ns, end_ns)`; raises ValueError when it ends before it starts."""
        if end_ns < start_ns:
            raise ValueError(f"inference interval ends {start_ns - end_ns} ns before it starts; expected end >= start")
        with self._lock:
            self._last_length_ns = end_ns - start_ns
            self._runs.append((start_ns, end_ns))
            self._runs_sum_ns += self._last_length_ns
            self._forget_before(end_ns - self._window_ns)
            if self._exact_share == 0:
                return
            self._spacing_ns = -(-self._last_length_ns * self._exact_share.denominator // self._exact_share.numerator)
            due_ns = start_ns if self._next_start_ns is None else self._next_start_ns
            self._next_start_ns = max(due_ns, start_ns - self._spacing_ns) + self._spacing_ns

    def share(self, now_ns: int) -> float:
        """Share of the window before `now_ns` that inference took (0-1 for one inference at a time)."""
        with self._lock:
            self._forget_before(now_ns - self._window_ns)
            return self._busy_since_ns(now_ns - self._window_ns) / self._window_ns

    def _window_is_full(self, now_ns: int, ahead: int) -> bool:
        """Whether an inference as long as the last would take the share of the window at its end over the limit.

        ahead: how many such inferences the limit is raised by.
        """
        self._forget_before(now_ns - self._window_ns)
        busy_ns = self._busy_since_ns(now_ns + self._last_length_ns - self._window_ns)
        # With nothing else in the window the inference is longer than the window allows for; it still has to run.
        return busy_ns > 0 and busy_ns + (1 - ahead) * self._last_length_ns > self._exact_share * self._window_ns

    def _busy_since_ns(self, since_ns: int) -> int:
        busy_ns = self._runs_sum_ns
        for start_ns, end_ns in self._runs:
            if start_ns >= since_ns:
                break
            busy_ns -= min(end_ns, since_ns) - start_ns
        return busy_ns

    def _forget_before(self, time_ns: int) -> None:
        while self._runs and self._runs[0][1] <= time_ns:
            start_ns, end_ns = self._runs.popleft()
            self._runs_sum_ns -= end_ns - start_ns
