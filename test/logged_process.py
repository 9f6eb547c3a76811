"""A process that a test has started, and what it says."""

from __future__ import annotations

import os
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
        # The process writes at the position that it shares with this file: seek() here would move it there too.
        descriptor = self.log_file.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def end(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 5.0) -> int:
        """Ends it by a signal and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)
