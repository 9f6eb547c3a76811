"""Runs one probe in a child process with a time limit: a library that aborts or hangs is a finding, not the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trt_perception.doctor.findings import Outcome
from trt_perception.own_process import ending_words, module_command

_TAIL_BYTES = 6000


def run_probe(module: str, argument: str, time_limit_s: float) -> Outcome:
    """Runs `look(argument)` of that module in a process of its own, and ends the process when the time is over."""
    with tempfile.TemporaryDirectory(prefix="trt_perception_doctor_") as folder:
        answer, output = Path(folder) / "facts.json", Path(folder) / "output.txt"
        command = module_command("trt_perception.doctor.run_look", module, argument, str(answer))
        start_ns = time.monotonic_ns()
        with output.open("wb") as log:
            # A session of its own, so that what the library started ends with it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                code = process.wait(timeout=time_limit_s)
                failure = None if code == 0 else ending_words(code)
            except subprocess.TimeoutExpired:
                failure = f"did not answer within {time_limit_s:g} s"
            finally:
                _end_session(process)
        took_ms = (time.monotonic_ns() - start_ns) / 1e6
        return Outcome(_facts(answer), failure, _tail(output), took_ms)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _facts(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        return file.read().decode(errors="replace").strip()
