"""The CUDA driver by ctypes: is there a GPU at all, how its functions are called, copies of rows, timing events.

Everything goes through libcuda, which comes with the NVIDIA driver, so nothing has to be installed for it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from trt_perception.errors import BackendError, BackendUnavailableError

_LIBRARY = "libcuda.so.1"
# cuda.h: CU_EVENT_RECORD_EXTERNAL makes an event inside a captured graph one whose time can be read.
_EVENT_RECORD_EXTERNAL = 1
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_ATTRIBUTE_CAPABILITY_MAJOR, _ATTRIBUTE_CAPABILITY_MINOR = 75, 76

_pointer = ctypes.c_void_p
_address = ctypes.c_uint64
_size = ctypes.c_size_t
_unsigned = ctypes.c_uint
# Where a plain number is passed, which ctypes would cut to 32 bits.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "cuCtxPushCurrent_v2": (_pointer,),
    "cuCtxPopCurrent_v2": (_pointer,),
    "cuMemAlloc_v2": (_pointer, _size),
    "cuMemFree_v2": (_address,),
    "cuMemHostAlloc": (_pointer, _size, _unsigned),
    "cuMemHostGetDevicePointer_v2": (_pointer, _pointer, _unsigned),
    "cuMemFreeHost": (_pointer,),
    "cuMemsetD8Async": (_address, ctypes.c_ubyte, _size, _pointer),
    "cuMemcpyHtoDAsync_v2": (_address, _pointer, _size, _pointer),
    "cuMemcpyDtoHAsync_v2": (_pointer, _address, _size, _pointer),
    "cuMemcpy2DAsync_v2": (_pointer, _pointer),
    "cuModuleLoadData": (_pointer, ctypes.c_char_p),
    "cuModuleGetFunction": (_pointer, _pointer, ctypes.c_char_p),
    "cuModuleUnload": (_pointer,),
    "cuLaunchKernel": (_pointer, *(_unsigned,) * 7, _pointer, _pointer, _pointer),
    "cuStreamCreate": (_pointer, _unsigned),
    "cuStreamDestroy_v2": (_pointer,),
    "cuStreamSynchronize": (_pointer,),
    "cuStreamBeginCapture_v2": (_pointer, ctypes.c_int),
    "cuStreamEndCapture": (_pointer, _pointer),
    "cuGraphInstantiateWithFlags": (_pointer, _pointer, ctypes.c_ulonglong),
    "cuGraphLaunch": (_pointer, _pointer),
    "cuStreamGetCaptureInfo_v2": (_pointer,) * 6,
    "cuStreamUpdateCaptureDependencies": (_pointer, _pointer, _size, _unsigned),
    "cuGraphAddChildGraphNode": (_pointer, _pointer, _pointer, _size, _pointer),
    "cuEventRecord": (_pointer, _pointer),
    "cuEventRecordWithFlags": (_pointer, _pointer, _unsigned),
    "cuEventElapsedTime": (_pointer, _pointer, _pointer),
    "cuPointerGetAttribute": (_pointer, ctypes.c_int, _address),
}
# cuda.h: CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE.
_ATTRIBUTE_MEMORY_TYPE, _HOST, _DEVICE = 2, 1, 2

# CUresult → what to do; the driver itself names and describes every code.
_REMEDIES = {
    2: "take a smaller batch, or end other programs on the GPU",
    35: "update the NVIDIA driver, or install libraries made for the CUDA version that nvidia-smi shows",
    100: "no GPU is visible: check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, --gpus all",
    101: "check CUDA_VISIBLE_DEVICES and the index after cuda:",
    209: "the kernels are for GPUs of compute capability 7.2 and newer",
    222: "the driver is older than that of CUDA 11.4: update it",
    700: "a kernel failed and this process cannot use the GPU any more: start it again",
    719: "a kernel failed and this process cannot use the GPU any more: start it again",
    803: "the driver's kernel module and library differ: restart the machine after a driver update",
    804: "the driver is too old for the forward-compatibility package: update the driver",
    999: "restart the machine, or reload the driver's kernel modules (nvidia_uvm)",
}


@functools.cache
def _library() -> ctypes.CDLL:
    return _load(ctypes.CDLL)


@functools.cache
def _library_that_keeps_the_lock() -> ctypes.CDLL:
    return _load(ctypes.PyDLL)


def _load(kind: type[ctypes.CDLL]) -> ctypes.CDLL:
    try:
        library = kind(_LIBRARY)
    except OSError as error:
        raise BackendUnavailableError(
            f"there is no NVIDIA driver here ({error}); install it, or in a container start with --gpus all"
        ) from error
    for name, kinds in _ARGUMENTS.items():
        # What an older driver lacks is missed when it is called.
        if hasattr(library, name):
            getattr(library, name).argtypes = kinds
    return library


def call(name: str, *arguments: Any) -> None:
    """Calls a driver function; raises BackendError with CUDA's name for what went wrong and the remedy."""
    require_success(name, int(_function(_library(), name)(*arguments)))


def quick(name: str) -> Callable[..., int]:
    """A driver function that only queues, for each frame; its result goes to require_success.

    The interpreter's lock is kept: giving it up for a microsecond lets another thread take it for milliseconds.
    """
    return _function(_library_that_keeps_the_lock(), name)


def _function(library: ctypes.CDLL, name: str) -> Callable[..., int]:
    function: Callable[..., int] | None = getattr(library, name, None)
    if function is None:
        raise BackendError(f"the NVIDIA driver has no {name}; update it to that of CUDA 11.4 or newer")
    return function


def require_success(name: str, code: int) -> None:
    """Raises the BackendError of a driver function's result, unless that is 0."""
    if code:
        text = _error_name(_library(), code)
        raise BackendError(f"{name} failed: {text}; {_REMEDIES.get(code, 'see nvidia-smi')}")


def _error_name(library: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorName(code, ctypes.byref(text))
    return f"{(text.value or b'CUDA_ERROR_UNKNOWN').decode()} (error {code})"


def require_gpu(index: int) -> None:
    """Raises BackendUnavailableError unless the driver works and has a GPU of that index."""
    try:
        call("cuInit", 0)
        count = ctypes.c_int()
        call("cuDeviceGetCount", ctypes.byref(count))
    except BackendUnavailableError:
        raise
    except BackendError as error:
        raise BackendUnavailableError(f"the NVIDIA driver does not start: {error}") from error
    if index >= count.value:
        raise BackendUnavailableError(
            f"there is no GPU cuda:{index}; the driver has {count.value}: check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )


def cuda_version() -> tuple[int, int]:
    """The newest CUDA version that the installed driver runs, as nvidia-smi shows it."""
    version = ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10


def compute_capability(index: int) -> tuple[int, int]:
    """(9, 0) of an H200; raises BackendUnavailableError unless the driver works and has a GPU of that index."""
    require_gpu(index)
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    call("cuDeviceGet", ctypes.byref(device), index)
    for value, attribute in ((major, _ATTRIBUTE_CAPABILITY_MAJOR), (minor, _ATTRIBUTE_CAPABILITY_MINOR)):
        call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return major.value, minor.value


def is_page_locked(address: int) -> bool:
    """True for host memory that the driver has locked, from which copies need no detour."""
    kind = _unsigned(0)
    code = quick("cuPointerGetAttribute")(ctypes.byref(kind), _ATTRIBUTE_MEMORY_TYPE, address)
    return int(code) == 0 and kind.value == _HOST


_SIDE: tuple[tuple[str, Any], ...] = (
    ("x_bytes", _size),
    ("y", _size),
    ("type", _unsigned),
    ("host", _pointer),
    ("device", _address),
    ("array", _pointer),
    ("pitch", _size),
)


class _Copy2D(ctypes.Structure):
    """CUDA_MEMCPY2D."""

    _fields_ = [
        *((f"src_{name}", kind) for name, kind in _SIDE),
        *((f"dst_{name}", kind) for name, kind in _SIDE),
        ("width_bytes", _size),
        ("height", _size),
    ]


class RowsUpload:
    """A copy of some rows in page-locked memory; on the device they touch."""

    def __init__(self, step: int, row_bytes: int, rows: int, group: int, every: int) -> None:
        """rows: how many; step: bytes from one to the next; `group` of them are taken, begun again every `every`."""
        self._copies = [
            _Copy2D(
                src_type=_HOST,
                src_pitch=step * every,
                dst_type=_DEVICE,
                dst_pitch=row_bytes * group,
                width_bytes=row_bytes,
                height=rows // group,
            )
            for _ in range(group)
        ]
        self._step, self._row_bytes = step, row_bytes
        self._enqueue = quick("cuMemcpy2DAsync_v2")

    def queue(self, device: int, host: int, stream: int) -> None:
        """Addresses as numbers."""
        for copy in self._copies:
            copy.src_host, copy.dst_device = host, device
            if code := self._enqueue(ctypes.byref(copy), stream):
                require_success("cuMemcpy2DAsync", code)
            host, device = host + self._step, device + self._row_bytes


class TimingEvent:
    """A point in a stream whose time the device itself takes. Made, used and closed under a current context."""

    def __init__(self) -> None:
        self._handle = ctypes.c_void_p()
        call("cuEventCreate", ctypes.byref(self._handle), 0)
        self._record, self._elapsed = quick("cuEventRecord"), quick("cuEventElapsedTime")
        self._milliseconds = ctypes.c_float()
        self._result = ctypes.byref(self._milliseconds)

    def record(self, stream: int, *, captured: bool = False) -> None:
        """Marks the stream's present end; `captured` while the stream is being recorded as a graph."""
        if captured:
            call("cuEventRecordWithFlags", self._handle, stream, _EVENT_RECORD_EXTERNAL)
        elif code := self._record(self._handle, stream):
            require_success("cuEventRecord", code)

    def wait(self) -> None:
        """Until the device has passed it; other Python threads run meanwhile."""
        call("cuEventSynchronize", self._handle)

    def nanoseconds_until(self, later: TimingEvent) -> int:
        """Device time between two marks that the stream has passed."""
        if code := self._elapsed(self._result, self._handle, later._handle):
            require_success("cuEventElapsedTime", code)
        return round(self._milliseconds.value * 1e6)

    def close(self) -> None:
        """Gives the event back; a second call does nothing."""
        if self._handle:
            call("cuEventDestroy_v2", self._handle)
            self._handle = ctypes.c_void_p()
