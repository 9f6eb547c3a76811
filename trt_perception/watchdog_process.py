"""Watches an inference from outside the process that runs it, and ends that process when the inference hangs.

Run by inference_watchdog.py as a script of its own, with the standard library alone. Arguments: the process's id and
the number of the inherited memory file. Standard input is a pipe that ends with the process.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import sys
import time
from pathlib import Path

# The memory that both processes see. First the number of beginnings and ends of inferences, so odd while one runs,
# then how many seconds one may take, 0: as long as it likes. Each is written by itself, as two threads write them.
COUNT = struct.Struct("<Q")
TIMEOUT = struct.Struct("<d")
MEMORY_BYTES = COUNT.size + TIMEOUT.size
# Ends a process unless it asks for the signal, and neither Python nor the libraries of the backends do.
HUNG_SIGNAL = signal.SIGALRM

_TICK_S = 0.1
_LAST_WORDS_S = 1.0


def watch(pid: int, memory: mmap.mmap) -> None:
    """Returns when the process has ended, by itself or because it hung.

    Counts its own ticks rather than reading a clock: a machine that slept, or both processes stopped together, is no
    hung inference; nor is a process that was stopped (SIGSTOP, a debugger).
    """
    last, stuck_s, before_s = -1, 0.0, time.monotonic()
    while not _has_ended(_TICK_S):
        (count,), (timeout_s,) = COUNT.unpack_from(memory), TIMEOUT.unpack_from(memory, COUNT.size)
        now_s = time.monotonic()
        if count != last or count % 2 == 0 or timeout_s <= 0:
            stuck_s = 0.0
        elif not _is_stopped(pid):
            stuck_s += min(now_s - before_s, 2 * _TICK_S)
        last, before_s = count, now_s
        if stuck_s > 0 and stuck_s >= timeout_s:
            _end(pid, timeout_s)
            return


def _has_ended(timeout_s: float) -> bool:
    return bool(select.select([sys.stdin.buffer], [], [], timeout_s)[0])


def _is_stopped(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")


def _end(pid: int, timeout_s: float) -> None:
    if os.getppid() != pid:
        return
    _say(
        f"an inference has not returned for {timeout_s:g} s (inference_timeout_s): process {pid} is ended by "
        f"{HUNG_SIGNAL.name}, exit code {-HUNG_SIGNAL}, in a shell {128 + HUNG_SIGNAL}; this is where its threads are:"
    )
    os.kill(pid, HUNG_SIGNAL)
    if not _has_ended(_LAST_WORDS_S) and os.getppid() == pid:
        _say(f"process {pid} did not end by {HUNG_SIGNAL.name}; it is killed")
        os.kill(pid, signal.SIGKILL)


def _say(text: str) -> None:
    os.write(2, f"[FATAL] [inference watchdog]: {text}\n".encode())


def main() -> int:
    """Entry point of the script."""
    # A signal for the whole group ends the node in its own way, and then this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pid, file = (int(word) for word in sys.argv[1:3])
    with mmap.mmap(file, MEMORY_BYTES) as memory:
        watch(pid, memory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
