"""The process of one backend: reads a command a line on standard input, writes an answer a line to a pipe.

Both are JSON. Libraries print to standard output and error as they like; that goes into a file of the parent's.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trt_perception.benchmark.bench_subject import BenchSubject
from trt_perception.errors import PerceptionError

Command = dict[str, Any]


class Worker:
    """Carries out the commands; one method each, named in `commands`."""

    def __init__(self) -> None:
        self._subject: BenchSubject | None = None
        self.commands: dict[str, Callable[[Command], dict[str, Any]]] = {
            "open": self._open,
            "run": self._run,
            "save_outputs": self._save_outputs,
            "run_batch": self._run_batch,
            "memory": self._memory,
        }

    def _open(self, command: Command) -> dict[str, Any]:
        pictures = [np.load(path) for path in command["pictures"]]
        self._subject, answer = BenchSubject.open(command["model"], command["backend"], pictures)
        return answer | {"interpreter": interpreter()}

    @property
    def subject(self) -> BenchSubject:
        """What is measured; the parent opens before it asks for more."""
        assert self._subject is not None, "open comes first"
        return self._subject

    def _run(self, command: Command) -> dict[str, Any]:
        settle = command.get("settle", 0)
        samples = self.subject.run(command["start"] - settle, settle + command["count"])
        return {"samples": samples[settle:]}

    def _save_outputs(self, command: Command) -> dict[str, Any]:
        self.subject.save_outputs(Path(command["path"]))
        return {}

    def _run_batch(self, command: Command) -> dict[str, Any]:
        return {"samples_ms": self.subject.run_batch(command["size"], command["warm_up"], command["iterations"])}

    def _memory(self, command: Command) -> dict[str, Any]:
        return {"peak_host_memory_mib": peak_memory_mib()}

    def close(self) -> None:
        """Frees the backend, if one was opened."""
        if self._subject is not None:
            self._subject.close()


def interpreter() -> dict[str, str]:
    """Versions of this process, which may be another Python's than the parent's."""
    return {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}


def peak_memory_mib() -> float | None:
    """The most memory that this process ever had resident, None where the system does not tell (not Linux)."""
    # Not getrusage: its figure begins with that of the process that started this one.
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def main(answers_descriptor: int) -> None:
    """Serves until standard input ends."""
    worker = Worker()
    with os.fdopen(answers_descriptor, "w", encoding="utf-8") as answers:
        try:
            for line in sys.stdin:
                command = json.loads(line)
                try:
                    answer = worker.commands[command["do"]](command)
                except PerceptionError as error:
                    answer = {"error": str(error)}
                answers.write(json.dumps(answer) + "\n")
                answers.flush()
        finally:
            worker.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
