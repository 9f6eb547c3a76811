"""The few calls of the CUDA driver that pycuda does not offer: is there a GPU at all, timing events, graphs.

Everything goes through libcuda, which comes with the NVIDIA driver, so nothing has to be installed for it.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from trt_perception.errors import BackendError, BackendUnavailableError

_LIBRARY = "libcuda.so.1"
# cuda.h: CU_EVENT_RECORD_EXTERNAL makes an event inside a captured graph one whose time can be read;
# CU_STREAM_CAPTURE_MODE_THREAD_LOCAL leaves other threads' allocations alone.
_EVENT_RECORD_EXTERNAL = 1
_CAPTURE_THREAD_LOCAL = 1

_pointer = ctypes.c_void_p
_address = ctypes.c_uint64
# Where a plain number is passed, which ctypes would cut to 32 bits.
_ARGUMENTS = {
    "cuGraphInstantiateWithFlags": (_pointer, _pointer, ctypes.c_ulonglong),
    "cuMemcpyHtoDAsync_v2": (_address, _pointer, ctypes.c_size_t, _pointer),
    "cuMemcpy2DAsync_v2": (_pointer, _pointer),
    "cuGraphLaunch": (_pointer, _pointer),
    "cuEventRecord": (_pointer, _pointer),
    "cuEventRecordWithFlags": (_pointer, _pointer, ctypes.c_uint),
    "cuEventElapsedTime": (_pointer, _pointer, _pointer),
    "cuStreamSynchronize": (_pointer,),
    "cuPointerGetAttribute": (_pointer, ctypes.c_int, _address),
}
_SIDE = (
    ("x_bytes", ctypes.c_size_t),
    ("y", ctypes.c_size_t),
    ("type", ctypes.c_uint),
    ("host", _pointer),
    ("device", _address),
    ("array", _pointer),
    ("pitch", ctypes.c_size_t),
)
# cuda.h: CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE.
_ATTRIBUTE_MEMORY_TYPE, _HOST, _DEVICE = 2, 1, 2

# CUresult → what to do; the driver itself names and describes every code.
_REMEDIES = {
    35: "update the NVIDIA driver, or install libraries made for the CUDA version that nvidia-smi shows",
    100: "no GPU is visible: check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, --gpus all",
    101: "check CUDA_VISIBLE_DEVICES and the index after cuda:",
    803: "the driver's kernel module and library differ: restart the machine after a driver update",
    804: "the driver is too old for the forward-compatibility package: update the driver",
    999: "restart the machine, or reload the driver's kernel modules (nvidia_uvm)",
}


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise BackendUnavailableError(
            f"there is no NVIDIA driver here ({error}); install it, or in a container start with --gpus all"
        ) from error
    for name, kinds in _ARGUMENTS.items():
        # What an older driver lacks is missed when it is called.
        if hasattr(library, name):
            getattr(library, name).argtypes = kinds
    return library


def _call(name: str, *arguments: Any) -> None:
    """Calls a driver function; raises BackendError with CUDA's name for what went wrong and the remedy."""
    library = _library()
    code = int(getattr(library, name)(*arguments))
    if code == 0:
        return
    raise BackendError(f"{name} failed: {_error_name(library, code)}; {_REMEDIES.get(code, 'see nvidia-smi')}")


def _error_name(library: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorName(code, ctypes.byref(text))
    return f"{(text.value or b'CUDA_ERROR_UNKNOWN').decode()} (error {code})"


def require_gpu(index: int) -> None:
    """Raises BackendUnavailableError unless the driver works and has a GPU of that index."""
    try:
        _call("cuInit", 0)
        count = ctypes.c_int()
        _call("cuDeviceGetCount", ctypes.byref(count))
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
    _call("cuDriverGetVersion", ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10


def upload(device: int, host: int, size: int, stream: int) -> None:
    """Queues a copy of `size` bytes from page-locked memory to the device; addresses as numbers."""
    _call("cuMemcpyHtoDAsync_v2", device, host, size, stream)


class _Copy2D(ctypes.Structure):
    """CUDA_MEMCPY2D."""

    _fields_ = [
        *((f"src_{name}", kind) for name, kind in _SIDE),
        *((f"dst_{name}", kind) for name, kind in _SIDE),
        ("width_bytes", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    ]


def upload_rows(device: int, host: int, host_step: int, row_bytes: int, rows: int, stream: int) -> None:
    """Queues a copy of rows that are host_step bytes apart in page-locked memory; on the device they touch."""
    copy = _Copy2D(
        src_type=_HOST,
        src_host=host,
        src_pitch=host_step,
        dst_type=_DEVICE,
        dst_device=device,
        dst_pitch=row_bytes,
        width_bytes=row_bytes,
        height=rows,
    )
    _call("cuMemcpy2DAsync_v2", ctypes.byref(copy), stream)


def is_page_locked(address: int) -> bool:
    """True for host memory that the driver has locked, from which copies need no detour."""
    kind = ctypes.c_uint(0)
    code = _library().cuPointerGetAttribute(ctypes.byref(kind), _ATTRIBUTE_MEMORY_TYPE, address)
    return int(code) == 0 and kind.value == _HOST


def synchronize(stream: int) -> None:
    """Waits for the stream; other Python threads run meanwhile."""
    _call("cuStreamSynchronize", stream)


class TimingEvent:
    """A point in a stream whose time the device itself takes. Made, used and closed under a current context."""

    def __init__(self) -> None:
        self._handle = ctypes.c_void_p()
        _call("cuEventCreate", ctypes.byref(self._handle), 0)

    def record(self, stream: int, *, captured: bool = False) -> None:
        """Marks the stream's present end; `captured` while the stream is being recorded as a graph."""
        if captured:
            _call("cuEventRecordWithFlags", self._handle, stream, _EVENT_RECORD_EXTERNAL)
        else:
            _call("cuEventRecord", self._handle, stream)

    def nanoseconds_until(self, later: TimingEvent) -> int:
        """Device time between two marks that the stream has passed."""
        milliseconds = ctypes.c_float()
        _call("cuEventElapsedTime", ctypes.byref(milliseconds), self._handle, later._handle)
        return round(milliseconds.value * 1e6)

    def close(self) -> None:
        """Gives the event back; a second call does nothing."""
        if self._handle:
            _call("cuEventDestroy_v2", self._handle)
            self._handle = ctypes.c_void_p()


class Graph:
    """Work recorded from a stream once and launched as one unit from then on (CUDA 11.4 and newer)."""

    def __init__(self, executable: ctypes.c_void_p) -> None:
        self._executable = executable

    def launch(self, stream: int) -> None:
        """Queues the recorded work."""
        _call("cuGraphLaunch", self._executable, stream)

    def close(self) -> None:
        """Gives the graph back; a second call does nothing."""
        if self._executable:
            _call("cuGraphExecDestroy", self._executable)
            self._executable = ctypes.c_void_p()


class GraphRecording:
    """`with GraphRecording(stream) as recording:` what is queued inside is recorded, not run; then `graph()`."""

    def __init__(self, stream: int) -> None:
        self._stream = ctypes.c_void_p(stream)
        self._recorded = ctypes.c_void_p()

    def __enter__(self) -> GraphRecording:
        _call("cuStreamBeginCapture_v2", self._stream, _CAPTURE_THREAD_LOCAL)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # The stream stays unusable until the recording has ended, also after a failure inside it.
        if kind is None:
            _call("cuStreamEndCapture", self._stream, ctypes.byref(self._recorded))
        else:
            _library().cuStreamEndCapture(self._stream, ctypes.byref(self._recorded))
            self._drop_recorded()

    def graph(self) -> Graph:
        """The recorded work, ready to be launched; the caller closes it."""
        executable = ctypes.c_void_p()
        try:
            _call("cuGraphInstantiateWithFlags", ctypes.byref(executable), self._recorded, 0)
        finally:
            self._drop_recorded()
        return Graph(executable)

    def _drop_recorded(self) -> None:
        if self._recorded:
            _call("cuGraphDestroy", self._recorded)
            self._recorded = ctypes.c_void_p()
