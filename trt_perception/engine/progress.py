"""How far a build has come: from the builder's progress monitor (10 and newer), else from what it logs."""

from __future__ import annotations

import re
import sys
import threading
import time
from typing import IO, Any, Protocol

from trt_perception.backends.tensorrt_runtime.library import TensorRt

_BAR_WIDTH = 24
_MIN_INTERVAL_NS = 100_000_000

# TensorRT 8's log → the phase that begins there.
_PHASES = (
    (re.compile(r"Calibrat", re.IGNORECASE), "calibrating"),
    (re.compile(r"Original: \d+ layers|Applying generic optimizations"), "optimising the graph"),
    (re.compile(r"Computing costs for"), "timing kernels"),
    (re.compile(r"Formats and tactics selection completed"), "putting the engine together"),
    (re.compile(r"Engine generation completed"), "engine complete"),
)
_TIMED_LAYER = re.compile(r"Computing costs for")


class Progress(Protocol):
    """Told how far a build is; may be called from TensorRT's own threads."""

    def update(self, phase: str, done: int, total: int) -> None:
        """`done` of `total` steps of a phase; total is 0 where the number is not known."""
        ...

    def finish(self) -> None:
        """The build is over, well or not."""
        ...


class Silent:
    """Shows nothing."""

    def update(self, phase: str, done: int, total: int) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Does nothing."""


class ProgressBar:
    """One line that is drawn again on a terminal; one line for each phase elsewhere."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._start_ns = time.monotonic_ns()
        self._drawn_ns = 0
        self._phase = ""

    def update(self, phase: str, done: int, total: int) -> None:
        """See Progress.update."""
        with self._lock:
            now = time.monotonic_ns()
            new_phase = phase != self._phase
            self._phase = phase
            seconds = (now - self._start_ns) / 1e9
            if not self._terminal:
                if new_phase:
                    print(f"[{seconds:6.1f} s] {phase}", file=self._stream, flush=True)
            elif new_phase or now - self._drawn_ns >= _MIN_INTERVAL_NS:
                self._drawn_ns = now
                share = min(done / total, 1.0) if total > 0 else 0.0
                bar = ("#" * round(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, ".")
                count = f"{done}/{total}" if total > 0 else f"{done}" if done else ""
                print(f"\r\x1b[2K[{bar}] {seconds:5.1f} s  {phase} {count}", end="", file=self._stream, flush=True)

    def finish(self) -> None:
        """Ends the line."""
        with self._lock:
            if self._terminal and self._phase:
                print(file=self._stream, flush=True)
            self._phase = ""


class LogProgress:
    """Reads phases out of TensorRT 8's messages; `total_layers` of the network, each of which is timed."""

    def __init__(self, progress: Progress, total_layers: int) -> None:
        self._progress = progress
        self._total = total_layers
        self._timed = 0

    def __call__(self, message: str) -> None:
        """Takes one message."""
        phase = next((name for pattern, name in _PHASES if pattern.search(message)), None)
        if phase is None:
            return
        if _TIMED_LAYER.search(message):
            self._timed += 1
            # Fusion makes fewer layers, reformatting more; the bar must not run over its end.
            self._progress.update(phase, min(self._timed, self._total), self._total)
        else:
            self._progress.update(phase, 0, 0)


def make_monitor(trt: TensorRt, progress: Progress) -> Any:
    """TensorRT's own progress monitor (10 and newer), which passes everything on; it must outlive the build."""

    base: Any = trt.module.IProgressMonitor

    class Monitor(base):
        def __init__(self) -> None:
            base.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            progress.update(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.update(phase_name, step + 1, self._steps.get(phase_name, 0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
