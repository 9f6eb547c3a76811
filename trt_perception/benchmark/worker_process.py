"""The parent's side of a worker: starts it, asks it, and says in words why it does not answer."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trt_perception.benchmark.device_memory import PeakWatch, Readings
from trt_perception.errors import PerceptionError
from trt_perception.own_process import ending_words, module_command

_END_S = 10.0
_WATCH_S = 0.02
_TAIL_BYTES = 4000


class WorkerError(PerceptionError):
    """A backend's process refused, died or did not answer; output_tail is the end of what it printed."""

    def __init__(self, message: str, output_tail: str = "") -> None:
        super().__init__(message)
        self.output_tail = output_tail


class WorkerProcess:
    """A process for one backend. close() ends it and everything that it started."""

    def __init__(self, python: str, log: Path, time_limit_s: float, gpu_memory: Readings | None = None) -> None:
        """Starts it; raises WorkerError when the interpreter does not start. gpu_memory: None where there is no GPU."""
        self._log = log
        self._time_limit_s = time_limit_s
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, "rb", buffering=0)
        self._buffer = b""
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    module_command("trt_perception.benchmark.worker", str(writing), python=python),
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(writing,),
                    start_new_session=True,
                )
        except OSError as error:
            self._answers.close()
            raise WorkerError(
                f"the interpreter {python} does not start ({error.strerror}); correct --python"
            ) from error
        finally:
            os.close(writing)
        self._watch = None if gpu_memory is None else PeakWatch(gpu_memory, self._process.pid)

    @property
    def peak_device_memory_mib(self) -> float | None:
        """The most that was seen while it worked; None where it never held any, or there is no GPU."""
        return None if self._watch is None else self._watch.peak_mib

    def ask(self, do: str, *, undisturbed: bool = False, **arguments: Any) -> dict[str, Any]:
        """Sends one command and waits for its answer; raises WorkerError.

        undisturbed: GPU memory is looked at before and after alone, since that takes the driver's time.
        """
        assert self._process.stdin is not None
        if self._watch is not None:
            self._watch.begin()
        with suppress(BrokenPipeError):  # a dead worker shows in what it answers: nothing
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line(do, None if undisturbed else self._watch))
        if self._watch is not None:
            self._watch.sample()
        if "error" in answer:
            raise WorkerError(str(answer["error"]), self._tail())
        return answer

    def _line(self, do: str, watch: PeakWatch | None) -> bytes:
        end_s = time.monotonic() + self._time_limit_s
        while b"\n" not in self._buffer:
            left_s = max(end_s - time.monotonic(), 0.0)
            ready, _, _ = select.select([self._answers], [], [], left_s if watch is None else min(left_s, _WATCH_S))
            if not ready and watch is not None and left_s > 0:
                watch.sample()
                continue
            if not ready:
                raise WorkerError(f"did not answer to `{do}` within {self._time_limit_s:g} s", self._tail())
            received = os.read(self._answers.fileno(), 1 << 16)
            if not received:
                words = ending_words(self._process.wait())
                tail = self._tail()
                last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
                raise WorkerError(f"its process {words} at `{do}`{f' ({last[:300]})' if last else ''}", tail)
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _tail(self) -> str:
        with self._log.open("rb") as file:
            file.seek(max(self._log.stat().st_size - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace")

    def close(self) -> None:
        """Lets the process end by itself, and ends it when it does not."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_END_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._answers.close()
