"""What NVIDIA's own tools and libraries say, with stand-ins that answer as those do on a GPU machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from trt_perception.backends.nvidia_smi import gpu_name
from trt_perception.doctor.child import run_probe
from trt_perception.doctor.findings import Level
from trt_perception.doctor.probes import driver, gpu

Tool = Callable[[str], None]

DRIVER = """
#include <string.h>
#include <stddef.h>
int cuDriverGetVersion(int *v) { *v = 12060; return 0; }
int cuInit(unsigned f) { return STATUS; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d ? "second" : "first", n); return 0; }
int cuDeviceTotalMem_v2(size_t *m, int d) { *m = (size_t)(d + 1) << 30; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : a == 76 ? d : -1; return 0; }
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Puts a shell script of that text in nvidia-smi's place."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(script: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    return write


def test_the_name_comes_from_the_tool(tool: Tool) -> None:
    tool('[ "$1" = --id=1 ] && echo "NVIDIA Something" || exit 6')
    assert gpu_name(1) == "NVIDIA Something"
    assert gpu_name(0) == "NVIDIA GPU 0"


def test_a_tool_that_says_nothing_leaves_a_number(tool: Tool) -> None:
    tool("exit 0")
    assert gpu_name(3) == "NVIDIA GPU 3"


def test_no_tool_leaves_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_name(2) == "NVIDIA GPU 2"
    assert gpu.look("") == {"gpus": [], "problem": "no nvidia-smi"}


def test_the_doctor_reads_a_table_of_gpus(tool: Tool) -> None:
    tool(
        'echo "GPU A, 560.35, Enabled, 345 MHz, 1980 MHz, 33, P0"; echo "GPU B, 560.35, Disabled, 1 MHz, 2 MHz, 1, P8"'
    )
    facts = gpu.look("")
    assert [entry["name"] for entry in facts["gpus"]] == ["GPU A", "GPU B"]
    judged = gpu.judge(facts, {})
    assert judged.level is Level.OK
    assert judged.summary == (
        "GPU A: driver 560.35, SM clock 345 MHz of 1980 MHz, persistence Enabled; "
        "GPU B: driver 560.35, SM clock 1 MHz of 2 MHz, persistence Disabled"
    )


def test_a_tool_that_fails_matters_where_the_driver_sees_a_gpu(tool: Tool) -> None:
    tool("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    facts = gpu.look("")
    assert gpu.judge(facts, {"gpus": [{"name": "GPU A"}]}).level is Level.WARNING
    absent = gpu.judge(facts, {})
    assert absent.level is Level.ABSENT
    assert absent.summary == "Failed to initialize NVML: Driver/library version mismatch"
    tool("exit 9")
    assert gpu.look("")["problem"] == "nvidia-smi ended with 9"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("status", "level", "summary"),
    [
        (
            0,
            Level.OK,
            "serves CUDA up to 12.6; first (compute capability 9.0, 1024 MiB), "
            "second (compute capability 9.1, 2048 MiB)",
        ),
        (803, Level.FAILED, "serves CUDA up to 12.6, but cuInit fails with error 803"),
    ],
)
def test_the_doctor_asks_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, level: Level, summary: str
) -> None:
    source = tmp_path / "driver.c"
    source.write_text(DRIVER, encoding="utf-8")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", f"-DSTATUS={status}", "-o", library, source], check=True, timeout=60)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    facts = run_probe("trt_perception.doctor.probes.driver", "", 60.0).facts
    assert facts is not None
    judged = driver.judge(facts, {})
    assert (judged.level, judged.summary) == (level, summary)


def test_a_driver_without_a_gpu_in_sight() -> None:
    judged = driver.judge({"newest_cuda": "12.6", "init_status": 0, "gpus": []}, {})
    assert (judged.level, judged.remedy) == (Level.WARNING, "check CUDA_VISIBLE_DEVICES")
    none = driver.judge({"load_error": "libcuda.so.1: no such file"}, {})
    assert none.level is Level.ABSENT and none.summary == "no NVIDIA driver (libcuda.so.1: no such file)"
