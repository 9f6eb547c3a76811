"""NVIDIA's driver, asked through its own library: the newest CUDA that it serves, and the GPUs."""

from __future__ import annotations

import ctypes
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level

_LIBRARY = "libcuda.so.1"
# CUdevice_attribute of the CUDA driver API.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


def look(argument: str) -> dict[str, Any]:
    """newest_cuda as `12.6`, cuInit's status, and name, compute capability and memory of each GPU."""
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        return {"load_error": str(error)}
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    facts: dict[str, Any] = {
        "newest_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        "init_status": int(cuda.cuInit(0)),
    }
    if facts["init_status"] == 0:
        count = ctypes.c_int()
        cuda.cuDeviceGetCount(ctypes.byref(count))
        facts["gpus"] = [_gpu(cuda, index) for index in range(count.value)]
    return facts


def _gpu(cuda: ctypes.CDLL, index: int) -> dict[str, Any]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    return {
        "name": name.value.decode(errors="replace"),
        "compute_capability": f"{major.value}.{minor.value}",
        "memory_mib": memory.value // 2**20,
    }


def judge(facts: Facts, driver: Facts) -> Judgement:
    """No library is no driver, which only a GPU's owner minds."""
    if "load_error" in facts:
        remedy = "if there is an NVIDIA GPU: install its driver, or start the container with `--gpus all`"
        return Judgement(Level.ABSENT, f"no NVIDIA driver ({facts['load_error']})", remedy)
    words = f"serves CUDA up to {facts['newest_cuda']}"
    if facts["init_status"] != 0:
        return Judgement(
            Level.FAILED,
            f"{words}, but cuInit fails with error {facts['init_status']}",
            "see `nvidia-smi`; error 100 is no GPU in sight (CUDA_VISIBLE_DEVICES, container), 803 a driver and a "
            "library of different versions (restart), 999 a broken state (restart, or reload nvidia_uvm)",
        )
    gpus = [f"{g['name']} (compute capability {g['compute_capability']}, {g['memory_mib']} MiB)" for g in facts["gpus"]]
    if not gpus:
        return Judgement(Level.WARNING, f"{words}, no GPU in sight", "check CUDA_VISIBLE_DEVICES")
    return Judgement(Level.OK, f"{words}; {', '.join(gpus)}")
