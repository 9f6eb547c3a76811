"""What the owner of context, stream and buffers promises, with pycuda replaced by a stand-in that keeps a diary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_perception.backends.tensorrt_runtime import cuda_session
from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession, gpu_identity
from trt_perception.errors import BackendError, BackendUnavailableError


class CudaError(Exception):
    """pycuda.driver.Error."""


class FakeCuda:
    """pycuda.driver: remembers what was pushed, popped, allocated and freed; memory is what it is told."""

    Error = CudaError

    def __init__(self, memory: int = 2**30) -> None:
        self.diary: list[str] = []
        self.memory = memory
        self.used = 0
        self.contexts = 0

    def Device(self, index: int) -> FakeDevice:
        return FakeDevice(self, index)

    def Stream(self, flags: int) -> FakeStream:
        assert flags == 1  # CU_STREAM_NON_BLOCKING
        return FakeStream(self)

    def mem_alloc(self, size: int) -> FakeMemory:
        if self.used + size > self.memory:
            raise CudaError("cuMemAlloc failed: out of memory")
        return FakeMemory(self, size)

    def mem_get_info(self) -> tuple[int, int]:
        return self.memory - self.used, self.memory

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        return np.empty(shape, dtype)

    def memcpy_htod_async(self, *_: object) -> None:
        self.diary.append("up")

    def memcpy_dtoh_async(self, *_: object) -> None:
        self.diary.append("down")


class FakeDevice:
    def __init__(self, cuda: FakeCuda, index: int) -> None:
        self._cuda = cuda

    def retain_primary_context(self) -> FakeContext:
        self._cuda.contexts += 1
        return FakeContext(self._cuda)

    def name(self) -> str:
        return "Fake GPU"

    def compute_capability(self) -> tuple[int, int]:
        return 8, 7

    def total_memory(self) -> int:
        return self._cuda.memory


class FakeContext:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def push(self) -> None:
        self._cuda.diary.append("push")

    def pop(self) -> None:
        self._cuda.diary.append("pop")

    def detach(self) -> None:
        self._cuda.contexts -= 1


class FakeStream:
    handle = 7

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.failure: str | None = None

    def synchronize(self) -> None:
        if self.failure:
            raise CudaError(self.failure)


class FakeMemory:
    def __init__(self, cuda: FakeCuda, size: int) -> None:
        self._cuda, self._size = cuda, size
        cuda.used += size

    def __int__(self) -> int:
        return 4096

    def free(self) -> None:
        self._cuda.used -= self._size


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda()
    monkeypatch.setattr(cuda_session, "require_gpu", lambda _: None)
    monkeypatch.setattr(cuda_session, "_driver", lambda: fake)
    monkeypatch.setattr(cuda_session, "_contexts", {})
    yield fake


def test_the_thread_gets_its_context_back(cuda: FakeCuda) -> None:
    session = CudaSession(0)
    cuda.diary.clear()
    with session.current():
        session.buffer((2,), "float32").upload()
    assert cuda.diary == ["push", "up", "pop"]
    cuda.diary.clear()
    with pytest.raises(ValueError), session.current():
        raise ValueError
    assert cuda.diary == ["push", "pop"]


def test_the_primary_context_is_retained_once(cuda: FakeCuda) -> None:
    for _ in range(3):
        CudaSession(0).close()
    assert cuda.contexts == 1


def test_buffers_give_their_memory_back_once_and_leave_the_host_side(cuda: FakeCuda) -> None:
    session = CudaSession(0)
    buffer = session.buffer((4, 5), "float16")
    assert (buffer.host.shape, buffer.host.dtype, buffer.address, cuda.used) == ((4, 5), np.dtype("float16"), 4096, 40)
    kept = buffer.host
    buffer.close()
    buffer.close()
    assert cuda.used == 0
    kept[...] = 1


def test_no_room_tells_sizes_and_remedies(cuda: FakeCuda) -> None:
    session = CudaSession(0)
    with pytest.raises(BackendError, match=r"2048\.0 MiB on cuda:0 \(1024 of 1024 MiB are free\).*--memPoolSize"):
        session.buffer((2**31,), "uint8")


def test_a_failed_kernel_is_explained(cuda: FakeCuda) -> None:
    session = CudaSession(0)
    session._stream.failure = "cuStreamSynchronize failed: an illegal memory access was encountered"
    with pytest.raises(BackendError, match=r"a kernel failed.*start the process again"):
        session.synchronize()


def test_close_may_be_called_again(cuda: FakeCuda) -> None:
    session = CudaSession(0)
    session.close()
    cuda.diary.clear()
    session.close()
    assert cuda.diary == []


def test_a_gpu_that_cannot_be_used_is_said(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise CudaError("cuDevicePrimaryCtxRetain failed: out of memory")

    monkeypatch.setattr(FakeDevice, "retain_primary_context", fail)
    with pytest.raises(BackendError, match=r"cuda:0 cannot be used: .*out of memory"):
        CudaSession(0)


def test_results_come_back_and_free_memory_is_told(cuda: FakeCuda) -> None:
    session = CudaSession(0)
    buffer = session.buffer((256,), "uint8")
    cuda.diary.clear()
    buffer.download()
    assert cuda.diary == ["down"]
    assert session.free_bytes() == 2**30 - 256
    assert (session.stream_handle, session.stream) == (7, session._stream)


def test_what_the_gpu_is(cuda: FakeCuda) -> None:
    identity = gpu_identity(0)
    assert (identity.name, identity.compute_capability, identity.memory_bytes) == ("Fake GPU", "8.7", 2**30)


@pytest.fixture
def pycuda_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder first on the path, with no pycuda loaded; what a test puts there is imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    cuda_session._driver.cache_clear()
    yield tmp_path
    cuda_session._driver.cache_clear()


def test_pycuda_that_is_missing_names_the_command(pycuda_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install pycuda.*nvcc"):
        cuda_session._driver()


def test_pycuda_built_against_another_cuda_is_explained(pycuda_folder: Path) -> None:
    (pycuda_folder / "pycuda").mkdir()
    (pycuda_folder / "pycuda" / "__init__.py").write_text("")
    (pycuda_folder / "pycuda" / "driver.py").write_text(
        "raise ImportError('libcurand.so.11: cannot open shared object file: No such file or directory')"
    )
    with pytest.raises(BackendUnavailableError, match=r"libcurand.*built against another CUDA.*--force-reinstall"):
        cuda_session._driver()


def test_pycuda_is_initialised_once(pycuda_folder: Path) -> None:
    (pycuda_folder / "pycuda").mkdir()
    (pycuda_folder / "pycuda" / "__init__.py").write_text("")
    (pycuda_folder / "pycuda" / "driver.py").write_text("calls = 0\ndef init():\n    global calls\n    calls += 1\n")
    driver: ModuleType = cuda_session._driver()
    assert cuda_session._driver() is driver
    assert driver.calls == 1
