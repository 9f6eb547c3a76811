"""A process that holds GPU memory for a moment, as the driver tells."""

from __future__ import annotations

import select
import subprocess
import sys

import pytest

from trt_perception.backends.nvml import GpuMemory
from trt_perception.benchmark.device_memory import PeakWatch

pytest.importorskip("torch", reason="torch is not installed")

CODE = """
import time, torch
block = torch.zeros(512 * 2**20, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
time.sleep(1.0)
del block
torch.cuda.empty_cache()
print("freed", flush=True)
input()
"""


def test_the_peak_counts_and_not_what_is_held_in_the_end() -> None:
    with GpuMemory() as memory:
        process = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with process:
            watch = PeakWatch(memory, process.pid)
            watch.begin()
            assert process.stdout is not None and process.stdin is not None
            while not select.select([process.stdout], [], [], 0.02)[0]:
                watch.sample()
            watch.sample()
            peak, held = watch.peak_mib, watch._held / 2**20
            process.stdin.close()
        assert process.returncode is not None
    assert peak is not None and peak >= 512
    assert held <= peak - 400
