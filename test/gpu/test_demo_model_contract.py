"""What every backend promises, asked of the demo model's engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.gpu.conftest import TACTICS
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import create_backend
from trt_perception.backends.base import Backend
from trt_perception.engine.build import build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.errors import BackendError, BackendUnavailableError
from trt_perception.model_file import Artifact
from trt_perception.models import load_model
from trt_perception.types import Float32Array

SHAPE = (1, 3, 320, 320)
OUTPUT = (1, 14, 1600)
# Largest difference to ONNX Runtime on the CPU, relative to the norm of its output.
TOLERANCE = {"tensorrt:fp16": 1e-2, "tensorrt:fp32": 1e-4}
MODEL = load_model("digits")


@pytest.fixture(scope="module", params=TOLERANCE)
def request_text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(request_text: str) -> Path:
    half = request_text.endswith("fp16")
    onnx = MODEL.artifact("onnx").path
    return build_engine(BuildOptions(onnx, fp16=half, no_tf32=not half, tactic_sources=TACTICS), MODEL.input).engine


@pytest.fixture
def closed(request_text: str, engine: Path) -> Iterator[Backend]:
    # That very engine; of the ONNX file the newest in the cache would be taken.
    model = replace(MODEL, artifacts={"engine": Artifact(engine)})
    backend = create_backend(BackendRequest.parse(request_text), model)
    yield backend
    backend.close()


@pytest.fixture
def backend(closed: Backend) -> Backend:
    closed.open()
    return closed


def batch(seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).random(SHAPE, np.float32)


def test_nothing_is_loaded_by_the_constructor(closed: Backend) -> None:
    assert not closed.is_open
    for use in (lambda: closed.info, lambda: closed.infer(batch())):
        with pytest.raises(BackendError, match="call open"):
            use()


def test_it_says_what_runs(backend: Backend, request_text: str) -> None:
    info = backend.info
    assert info.requested == request_text
    assert info.backend == request_text.split(":")[0]
    assert info.device == "cuda:0"
    assert info.precision == request_text.split(":")[1]
    assert info.device_name and info.provider and info.library and info.precision
    assert info.fallback_reason is None
    assert len(info.inputs) == 1 and len(info.inputs[0].shape) == 4


def test_it_computes_what_onnxruntime_computes(backend: Backend, request_text: str) -> None:
    with create_backend(BackendRequest.parse("onnxruntime:cpu"), MODEL) as judge:
        for seed in range(3):
            (expected,) = judge.infer(batch(seed)).arrays
            (found,) = backend.infer(batch(seed)).arrays
            assert found.shape == OUTPUT and found.dtype == np.float32
            error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            assert error < TOLERANCE[request_text]


def test_the_same_input_gives_the_same_output(backend: Backend) -> None:
    first = backend.infer(batch(1)).arrays[0].copy()
    backend.infer(batch(2))
    np.testing.assert_array_equal(backend.infer(batch(1)).arrays[0], first)


def test_every_stage_takes_time(backend: Backend) -> None:
    raw = backend.infer(batch())
    assert raw.start_ns > 0 and raw.inference_ns > 0
    for copy_ns in (raw.host_to_device_ns, raw.device_to_host_ns):
        assert copy_ns is not None and copy_ns > 0


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(SHAPE, np.float64), np.zeros(SHAPE[1:], np.float32), np.zeros((1, 3, 320), np.float32)],
    ids=["dtype", "rank 3", "rank 3 again"],
)
def test_a_tensor_that_does_not_fit_is_refused_and_the_backend_goes_on(backend: Backend, wrong: Any) -> None:
    with pytest.raises(BackendError, match="the network takes"):
        backend.infer(wrong)
    assert backend.infer(batch()).arrays[0].shape == OUTPUT


def test_a_batch_that_the_network_was_not_made_for_is_an_error(backend: Backend) -> None:
    with pytest.raises(BackendError):
        backend.infer(np.zeros((1, 4, 320, 320), np.float32))
    assert backend.infer(batch()).arrays[0].shape == OUTPUT


def test_its_own_input_memory_works_like_any_other(backend: Backend) -> None:
    expected = backend.infer(batch(4)).arrays[0].copy()
    buffer = backend.input_buffer(SHAPE)
    assert buffer is not None
    buffer[...] = batch(4)
    np.testing.assert_array_equal(backend.infer(buffer).arrays[0], expected)


def test_open_and_close_may_be_called_again(closed: Backend) -> None:
    closed.close()
    for _ in range(2):
        closed.open()
        closed.open()
        assert closed.is_open and closed.infer(batch()).arrays[0].shape == OUTPUT
        closed.close()
        closed.close()
        assert not closed.is_open


def test_with_opens_and_closes(closed: Backend) -> None:
    with closed as opened:
        assert opened.is_open
    assert not closed.is_open


def test_a_missing_file_is_unavailable(request_text: str, tmp_path: Path) -> None:
    missing = type(create_backend(BackendRequest.parse(request_text), MODEL))(
        BackendRequest.parse(request_text), tmp_path / "missing.onnx"
    )
    with pytest.raises(BackendUnavailableError, match="does not exist"):
        missing.open()
    assert not missing.is_open


def test_a_damaged_file_is_refused(request_text: str, tmp_path: Path, backend: Backend) -> None:
    damaged = tmp_path / "damaged.engine"
    damaged.write_bytes(b"not a model" * 100)
    broken = type(backend)(BackendRequest.parse(request_text), damaged)
    with pytest.raises(BackendError):
        broken.open()
    assert not broken.is_open
    assert backend.infer(batch()).arrays[0].shape == OUTPUT
