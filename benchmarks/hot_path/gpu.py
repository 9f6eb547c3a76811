"""Frame in host memory to detections on an NVIDIA GPU; where there is none, it says so.

Every way of gpu_ways.WAYS is a process of its own, so that no library disturbs another; they run blocks in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.hot_path.blocks import Samples
from benchmarks.hot_path.gpu_figures import SPREAD_OF, figures_of
from benchmarks.hot_path.gpu_ways import WAYS
from trt_perception.backends.cuda_frames.driver import require_gpu

WIDTH, HEIGHT = 1920, 1080
# SETTLING frames at the beginning of a block find caches and clocks as another process left them, and do not count;
# gpu_frames_until_settled says how many there were. The first round does not count either.
ROUNDS, BLOCK, SETTLING = 30, 100, 20
# In the end, while the other processes wait, since turns of a second apart find the processor in many states.
IN_A_ROW = 3000
_END_S = 10.0
# Every frame of every block in its order, milliseconds.
Blocks = list[list[float]]


def measure(folder: Path, pythons: Mapping[str, str]) -> tuple[dict[str, float], dict[str, Samples], dict[str, str]]:
    """The figures by name, the samples, and why a way is missing.

    pythons: backend → the interpreter that has it, where that is another one. Raises BackendUnavailableError without
    a GPU.
    """
    require_gpu(0)
    samples: Samples = {}
    blocks: dict[str, Blocks] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        running: dict[str, _Worker] = {}
        for name in WAYS:
            worker = _Worker(stack, name, folder, pythons.get(name.split(":")[0], sys.executable))
            reason = worker.why_not_ready()
            if reason is None:
                running[name] = worker
            else:
                missing[name] = reason
        names = list(running)
        for turn in range(ROUNDS + 1):
            shift = turn % max(len(names), 1)
            for name in names[shift:] + names[:shift]:
                rows = running[name].block(SETTLING + BLOCK)
                if turn == 0:
                    continue
                blocks.setdefault(name, []).append([row["total"] / 1e6 for row in rows])
                for row in rows[SETTLING:]:
                    for key, value in row.items():
                        samples.setdefault(name, {}).setdefault(key, []).append(value / 1e6)
        in_a_row = {
            name: [row["total"] / 1e6 for row in running[name].block(SETTLING + IN_A_ROW)[SETTLING:]]
            for name in names
            if name in SPREAD_OF
        }
    return figures_of(samples, blocks, in_a_row), {f"{WIDTH}x{HEIGHT} on the GPU": samples}, missing


class _Worker:
    """A way's process; ended with the stack."""

    def __init__(self, stack: ExitStack, name: str, folder: Path, python: str) -> None:
        self._log = folder / f"{name.replace(' ', '_').replace(':', '_')}.log"
        log = stack.enter_context(self._log.open("wb"))
        command = [python, "-m", "benchmarks.hot_path.gpu_ways", name, str(folder), str(WIDTH), str(HEIGHT)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        stack.callback(self._end)

    def why_not_ready(self) -> str | None:
        """Waits until it is; else the last line that the process said."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == '"ready"':
                return None
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its process ended"

    def block(self, count: int) -> list[Mapping[str, int]]:
        """So many frames' durations in nanoseconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        rows: Any = json.loads(self._process.stdout.readline())
        return list(rows)

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
