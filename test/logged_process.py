"""A process that a test has started, and what it says."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True)
class LoggedProcess:
    """log_file: where its output goes."""

    process: subprocess.Popen[bytes]
    log_file: IO[bytes]

    def log(self) -> str:
        self.log_file.seek(0)
        return self.log_file.read().decode(errors="replace")

    def end(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 5.0) -> int:
        """Ends it by a signal and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)
