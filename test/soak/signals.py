"""SIGINT and SIGTERM at random moments of a node's life: it ends soon, with 0 and without a traceback."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from pathlib import Path

from test.ros.graph import Graph
from test.soak.bad_images import good_image
from test.soak.bench import Row

LIMIT_S = 3.0
# Long enough for import, configure and activate on a busy machine, and for some frames.
LATEST_S = 4.0


def signals(times: int, rng: random.Random) -> Row:
    """Every life is another: a moment from the node's first line on, a signal, a backend."""
    start_s, worst_s = time.monotonic(), 0.0
    for number in range(times):
        with Graph() as graph:
            backend = rng.choice(("fake", "onnxruntime:cpu"))
            slow = rng.choice((0.0, 1.0, 10.0))  # a model that takes its time to load
            node = graph.start("detector_node", "-p", f"backends:=['{backend}']", "-p", f"fake.open_s:={slow}")
            wait_for_handlers(node.process.pid)
            camera = graph.camera()
            end_s = time.monotonic() + rng.uniform(0.0, LATEST_S)
            while time.monotonic() < end_s:
                camera.send_message(good_image())
                time.sleep(0.01)
            which = rng.choice((signal.SIGINT, signal.SIGTERM))
            segments = shared_memory(node.process.pid)
            sent_s = time.monotonic()
            try:
                code = node.end(which, LIMIT_S)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"life {number}: not within {LIMIT_S} s of {which.name}: {node.log()}") from None
            worst_s = max(worst_s, time.monotonic() - sent_s)
            assert code == 0, f"life {number}: {which.name} gave {code}: {node.log()}"
            assert "Traceback" not in node.log(), node.log()
            left = sorted(path.name for path in segments if path.exists())
            assert not left, f"life {number}: {which.name} left {left} in /dev/shm: {node.log()}"
    seconds = round(time.monotonic() - start_s, 1)
    outcome = f"exit 0, no traceback, after {worst_s:.2f} s at most"
    return Row("SIGINT or SIGTERM at a random moment", times, outcome, 0, 0, 0, None, seconds)


def shared_memory(pid: int) -> set[Path]:
    """Segments of Fast DDS that a process has mapped and this one has not: its own, and not what it reads from."""

    def mapped(of: int | str) -> set[Path]:
        maps = Path(f"/proc/{of}/maps").read_text(encoding="utf-8")
        return {Path(path) for path in re.findall(r"/dev/shm/fastrtps_[0-9a-f]{16}\b", maps)}

    return mapped(pid) - mapped("self")


def wait_for_handlers(pid: int) -> None:
    """Until the node's own code runs: before that, the signal is the interpreter's."""
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)
    raise AssertionError("the process never asked for SIGTERM")
