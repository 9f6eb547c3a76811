"""The machine and the software that figures come from."""

from __future__ import annotations

import os
import platform
from typing import Any

import cv2
import numpy as np

from trt_perception.backends.hardware import cpu_name
from trt_perception.doctor.child import run_probe

# What changes how fast libraries run, or on what.
_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
_PROBES = "trt_perception.doctor.probes"
_TIME_LIMIT_S = 20.0


def environment() -> dict[str, Any]:
    """CPU, cores, memory, GPUs, driver, versions and the variables that matter; plain values."""
    driver = run_probe(f"{_PROBES}.driver", "", _TIME_LIMIT_S).facts or {}
    gpu = run_probe(f"{_PROBES}.gpu", "", _TIME_LIMIT_S).facts or {}
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "logical_cores": os.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "load_average": list(os.getloadavg()),
        "newest_cuda_of_driver": driver.get("newest_cuda"),
        "gpus": [{**a, **b} for a, b in zip(driver.get("gpus", []), gpu.get("gpus", []), strict=False)]
        or driver.get("gpus", []),
        "libraries": {"numpy": np.__version__, "opencv": cv2.__version__},
        "opencv_threads": cv2.getNumThreads(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }
