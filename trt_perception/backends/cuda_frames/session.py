"""Stream, memory and kernels on one GPU in the device's primary context, which every CUDA library here shares."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import numpy as np

from trt_perception.backends.cuda_frames.driver import call, quick, require_gpu, require_success
from trt_perception.backends.cuda_frames.structs import InputStruct, OutputStruct
from trt_perception.errors import BackendError
from trt_perception.types import Uint8Array

# cuda.h: CU_STREAM_NON_BLOCKING keeps clear of the default stream, whose users would disturb a recording;
# CU_MEMHOSTALLOC_DEVICEMAP; CU_DEVICE_ATTRIBUTE_INTEGRATED.
_NON_BLOCKING = 1
_DEVICE_MAP = 2
_ATTRIBUTE_INTEGRATED = 18

# Of a kernel; addresses are c_uint64.
Argument: TypeAlias = InputStruct | OutputStruct | ctypes.c_uint64 | ctypes.c_int


@functools.cache
def _primary_context(device_index: int) -> ctypes.c_void_p:
    """Retained once and left to the process, as other libraries do: releasing it would tear down what they share."""
    context = ctypes.c_void_p()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), _device(device_index))
    return context


def _device(index: int) -> ctypes.c_int:
    device = ctypes.c_int()
    call("cuDeviceGet", ctypes.byref(device), index)
    return device


class _Current:
    """Makes a context this thread's for a block, then gives the thread back the one it had; may be entered anew."""

    def __init__(self, context: ctypes.c_void_p) -> None:
        self._context = context
        self._push, self._pop = quick("cuCtxPushCurrent_v2"), quick("cuCtxPopCurrent_v2")
        self._popped = ctypes.c_void_p()
        self._popped_at = ctypes.byref(self._popped)

    def __enter__(self) -> None:
        require_success("cuCtxPushCurrent", self._push(self._context))

    def __exit__(self, *_: object) -> None:
        self._pop(self._popped_at)


class FrameSession:
    """`with session.current():` around everything done with it and with what it gives; from any thread."""

    def __init__(self, device_index: int, stream: int | None = None) -> None:
        """stream: a CUstream of that device's primary context, which stays the caller's; without one it makes its own.

        Raises BackendUnavailableError without driver or GPU.
        """
        require_gpu(device_index)
        self.device_index = device_index
        self._current = _Current(_primary_context(device_index))
        self._own: ctypes.c_void_p | None = None
        if stream is None:
            self._own = ctypes.c_void_p()
            with self._current:
                call("cuStreamCreate", ctypes.byref(self._own), _NON_BLOCKING)
            stream = self._own.value
        self.stream_handle = int(stream or 0)
        self._copy_up, self._copy_down = quick("cuMemcpyHtoDAsync_v2"), quick("cuMemcpyDtoHAsync_v2")

    def current(self) -> _Current:
        """The block in which the context is this thread's."""
        return self._current

    def second_stream(self) -> FrameSession:
        """Another session with a stream of its own; the caller closes it."""
        return FrameSession(self.device_index)

    def synchronize(self) -> None:
        """Waits for the stream; other Python threads run meanwhile. Raises BackendError when the work failed."""
        call("cuStreamSynchronize", self.stream_handle)

    def device_memory(self, size: int) -> DeviceMemory:
        """Memory of the device, which is not zeroed; raises BackendError with the size when there is not enough."""
        address = ctypes.c_uint64()
        try:
            call("cuMemAlloc_v2", ctypes.byref(address), max(size, 1))
        except BackendError as error:
            free, total = self.free_bytes(), self._memory_info()[1]
            raise BackendError(
                f"cannot allocate {size / 2**20:.1f} MiB on cuda:{self.device_index} "
                f"({free / 2**20:.0f} of {total / 2**20:.0f} MiB are free): {error}"
            ) from error
        return DeviceMemory(int(address.value), size)

    def host_memory(self, size: int) -> HostMemory:
        """Page-locked bytes, zeroed, that the device can read and write where they lie; raises BackendError."""
        memory, on_device = ctypes.c_void_p(), ctypes.c_uint64()
        call("cuMemHostAlloc", ctypes.byref(memory), max(size, 1), _DEVICE_MAP)
        with _undone_by(lambda: call("cuMemFreeHost", memory)):
            call("cuMemHostGetDevicePointer_v2", ctypes.byref(on_device), memory, 0)
        return HostMemory(int(memory.value or 0), int(on_device.value), size)

    def uploaded(self, content: Any) -> DeviceMemory:
        """Device memory with an array's bytes, there when the call returns."""
        raw = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        staged = self.host_memory(raw.size)
        try:
            memory = self.device_memory(raw.size)
            with _undone_by(memory.close):
                staged.array[...] = raw
                self.upload(memory.address, staged.address, raw.size)
                self.synchronize()
        finally:
            staged.close()
        return memory

    def zeroed(self, size: int) -> DeviceMemory:
        """Device memory of zeros, there when the call returns."""
        memory = self.device_memory(size)
        with _undone_by(memory.close):
            call("cuMemsetD8Async", memory.address, 0, size, self.stream_handle)
            self.synchronize()
        return memory

    def upload(self, device: int, host: int, size: int) -> None:
        """Queues a copy from page-locked memory; addresses as numbers."""
        require_success("cuMemcpyHtoDAsync", self._copy_up(device, host, size, self.stream_handle))

    def download(self, host: int, device: int, size: int) -> None:
        """Queues a copy to page-locked memory; addresses as numbers."""
        require_success("cuMemcpyDtoHAsync", self._copy_down(host, device, size, self.stream_handle))

    @property
    def integrated(self) -> bool:
        """True where GPU and processor share one memory (Jetson), so that copies only cost time."""
        value = ctypes.c_int()
        call("cuDeviceGetAttribute", ctypes.byref(value), _ATTRIBUTE_INTEGRATED, _device(self.device_index))
        return bool(value.value)

    def module(self, ptx: bytes) -> KernelModule:
        """Kernels from PTX, compiled by the driver; raises BackendError where it does not take them."""
        return KernelModule(ptx)

    def free_bytes(self) -> int:
        """Device memory that is free at this moment, for all processes."""
        with self._current:
            return self._memory_info()[0]

    def close(self) -> None:
        """Gives its own stream back; memory goes first. A second call does nothing."""
        own, self._own = self._own, None
        if own is not None:
            # After a failed kernel every call fails; whoever closes has more to free.
            with suppress(BackendError), self._current:
                call("cuStreamDestroy_v2", own)

    @staticmethod
    def _memory_info() -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value


@contextmanager
def _undone_by(free: Callable[[], None]) -> Iterator[None]:
    """Frees what was allocated before the block when the block fails."""
    try:
        yield
    except BaseException:
        # After a failed kernel this fails as well; the first error is the one that tells.
        with suppress(BackendError):
            free()
        raise


class DeviceMemory:
    """address: on the device."""

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size

    def close(self) -> None:
        """Frees it; a second call does nothing."""
        if self.address:
            address, self.address = self.address, 0
            call("cuMemFree_v2", address)


class HostMemory:
    """array: uint8 (size,), valid until close(); address: the host's; device_address: the device's of the same."""

    def __init__(self, address: int, device_address: int, size: int) -> None:
        self.address, self.device_address, self.size = address, device_address, size
        raw = (ctypes.c_uint8 * max(size, 1)).from_address(address)
        self.array: Uint8Array = np.frombuffer(memoryview(raw), np.uint8)[:size]
        self.array[...] = 0

    def close(self) -> None:
        """Frees it; a second call does nothing."""
        if self.address:
            address, self.address = self.address, 0
            self.array = np.empty(0, np.uint8)
            call("cuMemFreeHost", address)


class KernelModule:
    """Loaded kernels."""

    def __init__(self, ptx: bytes) -> None:
        self._module = ctypes.c_void_p()
        try:
            # The driver reads up to a zero.
            call("cuModuleLoadData", ctypes.byref(self._module), ptx + b"\0")
        except BackendError as error:
            raise BackendError(f"the driver does not take the kernels: {error}") from error

    def launch(
        self,
        stream: int,
        name: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
    ) -> None:
        """Queues a kernel; raises BackendError."""
        function = ctypes.c_void_p()
        call("cuModuleGetFunction", ctypes.byref(function), self._module, name.encode())
        places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        call("cuLaunchKernel", function, *grid, *block, 0, stream, places, None)

    def close(self) -> None:
        """Unloads the kernels; a second call does nothing."""
        if self._module:
            call("cuModuleUnload", self._module)
            self._module = ctypes.c_void_p()
