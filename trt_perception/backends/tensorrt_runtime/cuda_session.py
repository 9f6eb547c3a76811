"""The one owner of a CUDA context, a stream and buffers, usable from any thread; the only importer of pycuda."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_perception.backends.cuda_frames.driver import require_gpu
from trt_perception.backends.tensorrt_runtime.faults import explain
from trt_perception.errors import BackendError, BackendUnavailableError
from trt_perception.types import AnyArray

# cuda.h: CU_STREAM_NON_BLOCKING keeps clear of the default stream, whose users would disturb a recording.
_NON_BLOCKING = 1

_contexts: dict[int, Any] = {}
_contexts_lock = threading.Lock()


@dataclass(frozen=True)
class GpuIdentity:
    """What an engine is tied to: the GPU's name and compute capability such as `9.0`; total memory in bytes."""

    name: str
    compute_capability: str
    memory_bytes: int


@functools.cache
def _driver() -> Any:
    """pycuda.driver, initialised; raises BackendUnavailableError that says why it cannot be had."""
    try:
        import pycuda.driver as driver
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            f"the Python package {error.name} is missing; install it with `pip install pycuda` (it is compiled on "
            "the spot and needs the CUDA toolkit: nvcc on the PATH)"
        ) from error
    except ImportError as error:
        raise BackendUnavailableError(
            f"pycuda does not load ({error}); it was built against another CUDA or NumPy: build it again with "
            "`pip install --no-cache-dir --force-reinstall --no-binary :all: pycuda`"
        ) from error
    driver.init()
    return driver


def gpu_identity(index: int) -> GpuIdentity:
    """Name and compute capability of a GPU; raises BackendUnavailableError where there is none."""
    require_gpu(index)
    device = _driver().Device(index)
    major, minor = device.compute_capability()
    return GpuIdentity(str(device.name()), f"{major}.{minor}", int(device.total_memory()))


def _primary_context(index: int) -> Any:
    """The device's primary context, which torch and ONNX Runtime use too.

    It is retained once and left to the process, as those two do: releasing it would tear down the state that they
    share, and pycuda cannot release a context from another thread than the one that made it.
    """
    with _contexts_lock:
        if index not in _contexts:
            context = _driver().Device(index).retain_primary_context()
            # Finalizers run at exit in reverse order, so every session made later is closed before its context.
            weakref.finalize(_driver, context.detach)
            _contexts[index] = context
        return _contexts[index]


class CudaSession:
    """Stream, page-locked and device memory on one GPU. `with session.current():` around everything done with them."""

    def __init__(self, device_index: int) -> None:
        """Raises BackendUnavailableError when driver, GPU or pycuda is missing."""
        require_gpu(device_index)
        self._cuda = _driver()
        self.device_index = device_index
        try:
            self._context = _primary_context(device_index)
            with self.current():
                self._stream: Any = self._cuda.Stream(_NON_BLOCKING)
        except self._cuda.Error as error:
            raise BackendError(f"cuda:{device_index} cannot be used: {explain(str(error))}") from error

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes the context this thread's for the block and gives the thread back the one it had."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    @property
    def stream(self) -> Any:
        """pycuda's stream."""
        return self._stream

    @property
    def stream_handle(self) -> int:
        """The CUstream as a number, as TensorRT takes it."""
        return int(self._stream.handle)

    def synchronize(self) -> None:
        """Waits for the stream; other Python threads run meanwhile. Raises BackendError when the work failed."""
        try:
            self._stream.synchronize()
        except self._cuda.Error as error:
            raise BackendError(f"the GPU failed: {explain(str(error))}") from error

    def buffer(self, shape: Sequence[int], dtype: str) -> Buffer:
        """A page-locked array and as much device memory; raises BackendError with the size when there is not enough."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        try:
            device = self._cuda.mem_alloc(max(size, 1))
            host: AnyArray = self._cuda.pagelocked_empty(tuple(shape), np.dtype(dtype))
        except self._cuda.Error as error:
            free, total = self._cuda.mem_get_info()
            raise BackendError(
                f"cannot allocate {size / 2**20:.1f} MiB on cuda:{self.device_index} "
                f"({free / 2**20:.0f} of {total / 2**20:.0f} MiB are free): {explain(str(error))}"
            ) from error
        return Buffer(self._cuda, self._stream, host, device)

    def free_bytes(self) -> int:
        """Device memory that is free at this moment, for all processes."""
        with self.current():
            return int(self._cuda.mem_get_info()[0])

    def close(self) -> None:
        """Gives the stream back; buffers go first. A second call does nothing."""
        if self._stream is not None:
            with self.current():
                self._stream = None


class Buffer:
    """One tensor on both sides. `host` is page-locked and stays valid memory as long as somebody holds it."""

    def __init__(self, cuda: Any, stream: Any, host: AnyArray, device: Any) -> None:
        self._cuda = cuda
        self._stream = stream
        self.host = host
        self._device: Any = device

    @property
    def address(self) -> int:
        """Of the device memory."""
        return int(self._device)

    def upload(self) -> None:
        """Queues the copy to the device."""
        self._cuda.memcpy_htod_async(self._device, self.host, self._stream)

    def download(self) -> None:
        """Queues the copy back."""
        self._cuda.memcpy_dtoh_async(self.host, self._device, self._stream)

    def close(self) -> None:
        """Frees the device memory and lets go of the host's; a second call does nothing."""
        if self._device is not None:
            self._device.free()
            self._device = None
            self.host = np.empty(0, self.host.dtype)
            self._stream = None
