"""Ends this process when an inference hangs, even one that never gives the interpreter lock back."""

from __future__ import annotations

import faulthandler
import mmap
import os
import subprocess
import sys

from trt_perception import watchdog_process
from trt_perception.watchdog_process import COUNT, HUNG_SIGNAL, MEMORY_BYTES, TIMEOUT

# What subprocess and `ros2 launch` report of a process that the watchdog ended; a shell says 128 + 14.
EXIT_CODE_HUNG = -int(HUNG_SIGNAL)

_END_TIMEOUT_S = 2.0


class InferenceWatchdog:
    """A process beside this one that looks ten times a second whether the inference that runs is still the same.

    A thread could not: one that holds the interpreter lock inside a library stops every other thread. The process
    hung gets SIGALRM, on which faulthandler, which needs no lock, writes every thread's stack to standard error.
    """

    def __init__(self, timeout_s: float) -> None:
        """Starts the process that watches. timeout_s: how long an inference may take; 0: as long as it likes."""
        file = os.memfd_create("inference_watchdog")
        os.ftruncate(file, MEMORY_BYTES)
        self._memory = mmap.mmap(file, MEMORY_BYTES)
        self._count = 0
        self.timeout_s = timeout_s
        faulthandler.register(HUNG_SIGNAL, all_threads=True, chain=True)
        # Isolated and without site: it starts in a tenth of the time and takes a few megabytes. In a session of its
        # own, so that Ctrl-Z in a shell stops the node alone, which the watchdog then sees.
        words = [sys.executable, "-I", "-S", watchdog_process.__file__, str(os.getpid()), str(file)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=(file,), start_new_session=True)
        os.close(file)

    @property
    def timeout_s(self) -> float:
        """How long an inference may take; may be set at any time, 0: as long as it likes."""
        return float(TIMEOUT.unpack_from(self._memory, COUNT.size)[0])

    @timeout_s.setter
    def timeout_s(self, seconds: float) -> None:
        TIMEOUT.pack_into(self._memory, COUNT.size, seconds)

    def began(self) -> None:
        """An inference begins; from one thread only."""
        self._count += 1 + self._count % 2
        COUNT.pack_into(self._memory, 0, self._count)

    def ended(self) -> None:
        """It is over; one that began before the watchdog did is none."""
        self._count += self._count % 2
        COUNT.pack_into(self._memory, 0, self._count)

    def close(self) -> None:
        """Ends the process that watches; a second call does nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait(_END_TIMEOUT_S)
            self._memory.close()
