"""Memory of the GPUs, asked of NVIDIA's management library, which comes with the driver."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from types import TracebackType

_LIBRARY = "libnvidia-ml.so.1"
# nvml.h: more processes than any GPU here has; what stands where the driver does not tell (NVML_VALUE_NOT_AVAILABLE).
_ROOM = 1024
_NOT_AVAILABLE = ctypes.c_ulonglong(-1).value


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    """nvmlProcessInfo_v2_t, which is the current one."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class GpuMemory:
    """All GPUs of this machine; raises OSError where there is no NVIDIA driver or it does not start."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        self._call("nvmlInit_v2")
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        self._devices = []
        for index in range(count.value):
            device = ctypes.c_void_p()
            self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(device))
            self._devices.append(device)

    def __enter__(self) -> GpuMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._call("nvmlShutdown")

    def in_use(self) -> int:
        """Bytes that all processes together hold on all GPUs."""
        total = 0
        for device in self._devices:
            memory = _Memory()
            self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
            total += memory.used
        return total

    def of_process(self, pid: int) -> int | None:
        """Bytes that a process holds on all GPUs; None where the driver does not know it by that number.

        So it is inside most containers, and for one that holds nothing.
        """
        held = []
        for device in self._devices:
            count = ctypes.c_uint(_ROOM)
            found = (_Process * _ROOM)()
            self._call("nvmlDeviceGetComputeRunningProcesses_v3", device, ctypes.byref(count), found)
            held += [p.used for p in found[: count.value] if p.pid == pid and p.used != _NOT_AVAILABLE]
        return sum(held) if held else None

    def _call(self, name: str, *arguments: object) -> None:
        try:
            code = int(getattr(self._library, name)(*arguments))
        except AttributeError as error:  # a driver older than the function
            raise OSError(f"the NVIDIA driver has no {name}") from error
        if code != 0:
            raise OSError(code, f"{name} failed with NVML's error {code}")
