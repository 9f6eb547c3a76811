"""Every test here needs an NVIDIA GPU with TensorRT and pycuda, and skips with the reason where one is missing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from test.gpu.networks import SIDE, write_network
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.cuda_frames.driver import require_gpu
from trt_perception.backends.tensorrt_backend import TensorRtBackend
from trt_perception.backends.tensorrt_runtime.engine_cache import CACHE_VARIABLE
from trt_perception.backends.tensorrt_runtime.library import TensorRt, load_tensorrt
from trt_perception.engine.build import BuildResult, build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.errors import BackendUnavailableError
from trt_perception.types import Float32Array

# Where cuBLAS and cuDNN are not installed TensorRT may only use its own kernels; the tests run with either.
TACTICS = os.environ.get("TRT_PERCEPTION_TEST_TACTICS", "")
TIMINGS = [f"--timingCacheFile={os.environ[name]}" for name in ("TRT_PERCEPTION_TEST_TIMINGS",) if name in os.environ]

_folder = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _folder in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def trt() -> TensorRt:
    try:
        require_gpu(0)
    except BackendUnavailableError as error:
        pytest.skip(f"no CUDA device: {error}")
    pytest.importorskip("tensorrt", reason="TensorRT is not installed", exc_type=ImportError)
    pytest.importorskip("pycuda.driver", reason="pycuda is not installed", exc_type=ImportError)
    return load_tensorrt()


@pytest.fixture(autouse=True, scope="session")
def cache(trt: TensorRt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A folder that is kept saves the minutes that the demo model's engines take.
    kept = os.environ.get("TRT_PERCEPTION_TEST_CACHE")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("engines")
    os.environ[CACHE_VARIABLE] = str(folder)
    return folder


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("onnx") / "small.onnx")


@pytest.fixture(scope="session")
def small_fp16(small_onnx: Path, cache: Path) -> BuildResult:
    return build_engine(BuildOptions(onnx=small_onnx, fp16=True, tactic_sources=TACTICS))


@pytest.fixture(scope="session")
def small_fp32(small_onnx: Path, cache: Path) -> BuildResult:
    return build_engine(BuildOptions(onnx=small_onnx, tactic_sources=TACTICS))


@pytest.fixture(scope="session")
def batch() -> Float32Array:
    return np.random.default_rng(7).random((1, 3, SIDE, SIDE), np.float32)


def open_backend(artifact: Path, request: str = "tensorrt", **settings: object) -> TensorRtBackend:
    """An opened backend; the caller closes it."""
    backend = TensorRtBackend(BackendRequest.parse(request), artifact, settings=settings)
    backend.open()
    return backend
