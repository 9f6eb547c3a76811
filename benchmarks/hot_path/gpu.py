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

from benchmarks.hot_path.blocks import Samples, median, ratio
from benchmarks.hot_path.gpu_ways import (
    BARE,
    BARE_ORDINARY,
    BATCHED,
    IN_TURN,
    LOCKED,
    ONNXRUNTIME,
    PLAIN,
    TENSORRT,
    TORCHSCRIPT,
    WAYS,
)
from trt_perception.backends.cuda_frames.driver import require_gpu
from trt_perception.statistics import summarize

WIDTH, HEIGHT = 1920, 1080
ROUNDS, BLOCK = 30, 100
_END_S = 10.0
# Figure → the way whose median total is divided by the other's.
RATIOS = {
    "gpu_tensorrt_vs_upload_and_engine": (LOCKED, BARE),
    "gpu_tensorrt_vs_upload_and_engine_ordinary_memory": (TENSORRT, BARE_ORDINARY),
    "gpu_tensorrt_ordinary_vs_page_locked_upload_and_engine": (TENSORRT, BARE),
    "gpu_straightforward_vs_tensorrt": (PLAIN, TENSORRT),
    "gpu_torchscript_vs_tensorrt": (TORCHSCRIPT, TENSORRT),
    "gpu_onnxruntime_vs_tensorrt": (ONNXRUNTIME, TENSORRT),
    "gpu_four_batched_vs_in_turn": (BATCHED, IN_TURN),
}


def measure(folder: Path, pythons: Mapping[str, str]) -> tuple[dict[str, float], dict[str, Samples], dict[str, str]]:
    """The figures by name, the samples, and why a way is missing.

    pythons: backend → the interpreter that has it, where that is another one. Raises BackendUnavailableError without
    a GPU.
    """
    require_gpu(0)
    samples: Samples = {}
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
        for turn in range(ROUNDS):
            shift = turn % max(len(names), 1)
            for name in names[shift:] + names[:shift]:
                # The first frame of a block finds the GPU as another process left it.
                for row in running[name].block(BLOCK + 1)[1:]:
                    for key, value in row.items():
                        samples.setdefault(name, {}).setdefault(key, []).append(value / 1e6)
    return _figures(samples), {f"{WIDTH}x{HEIGHT} on the GPU": samples}, missing


def _figures(samples: Samples) -> dict[str, float]:
    figures = {f"gpu_total_ms {name}": median(rows["total"]) for name, rows in samples.items()}
    for name, (of, to) in RATIOS.items():
        if of in samples and to in samples:
            figures[name] = ratio(samples, (of, "total"), (to, "total"))
    for name in (TENSORRT, LOCKED, TORCHSCRIPT, ONNXRUNTIME):
        if name in samples:
            total = summarize(samples[name]["total"])
            figures[f"gpu_p99_over_p50 {name}"] = total.p99 / total.p50
    return figures


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
