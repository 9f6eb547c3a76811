"""What a machine without an NVIDIA driver gets: a refusal with the remedy, never a crash."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import weakref
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import onnx as onnx_library
import pytest

from test.unit.engine.onnx_models import conv_model
from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import create_backend, tensorrt_backend
from trt_perception.backends.base import BackendInfo
from trt_perception.backends.cuda_frames import driver
from trt_perception.backends.cuda_frames.recording import Graph
from trt_perception.backends.tensorrt_backend import TensorRtBackend, _engine_bytes
from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession, GpuIdentity
from trt_perception.backends.tensorrt_runtime.engine_runner import EngineRunner, _Bound
from trt_perception.backends.tensorrt_runtime.engine_tensors import InputRange
from trt_perception.backends.tensorrt_runtime.faults import explain
from trt_perception.backends.tensorrt_runtime.manifest import PREVIEW, EngineKey, EngineManifest, manifest_path
from trt_perception.backends.tensorrt_runtime.shaped_context import ShapedContext
from trt_perception.backends.tensorrt_runtime.versions import PROFILE_SHARING
from trt_perception.errors import BackendError, BackendUnavailableError
from trt_perception.external_data import onnx_digest
from trt_perception.model_file import Artifact
from trt_perception.models import load_model
from trt_perception.types import TensorSpec

IMAGES = TensorSpec("images", "float32", (None, 3, 8, 8))


def driver_is_here() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(driver_is_here(), reason="this machine has an NVIDIA driver")
def test_no_driver_is_said_in_words(tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"engine")
    backend = TensorRtBackend(BackendRequest.parse("tensorrt"), engine)
    with pytest.raises(BackendUnavailableError, match=r"no NVIDIA driver.*install it"):
        backend.open()
    assert not backend.is_open
    backend.close()


class FakeDriver:
    """libcuda with one answer for cuInit and a number of GPUs."""

    def __init__(self, init: int = 0, count: int = 1) -> None:
        self._init, self._count = init, count

    def cuInit(self, _: int) -> int:
        return self._init

    def cuDeviceGetCount(self, count: object) -> int:
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self._count  # type: ignore[arg-type]
        return 0

    def cuDriverGetVersion(self, version: object) -> int:
        ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = 12060  # type: ignore[arg-type]
        return 0

    def cuGetErrorName(self, code: int, text: object) -> int:
        ctypes.cast(text, ctypes.POINTER(ctypes.c_char_p))[0] = b"CUDA_ERROR_TEST"  # type: ignore[arg-type]
        return 0


@pytest.mark.parametrize(
    ("code", "remedy"), [(35, "update the NVIDIA driver"), (100, "CUDA_VISIBLE_DEVICES"), (803, "restart"), (7, "smi")]
)
def test_a_driver_that_does_not_start_is_explained(monkeypatch: pytest.MonkeyPatch, code: int, remedy: str) -> None:
    monkeypatch.setattr(driver, "_library", lambda: FakeDriver(init=code))
    with pytest.raises(BackendUnavailableError, match=rf"CUDA_ERROR_TEST \(error {code}\).*{remedy}"):
        driver.require_gpu(0)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_library", lambda: FakeDriver(count=2))
    driver.require_gpu(1)
    with pytest.raises(BackendUnavailableError, match=r"no GPU cuda:2; the driver has 2"):
        driver.require_gpu(2)


def test_the_drivers_cuda_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_library", lambda: FakeDriver())
    assert driver.cuda_version() == (12, 6)


@pytest.mark.parametrize("request_text", ["tensorrt:cpu", "tensorrt:fp8"])
def test_devices_and_precisions_that_it_lacks(request_text: str) -> None:
    with pytest.raises(BackendError, match="tensorrt has no"):
        TensorRtBackend(BackendRequest.parse(request_text), Path("x.engine"))


@pytest.mark.parametrize(
    ("kinds", "chosen"), [(("engine", "onnx"), "engine"), (("onnx",), "onnx"), (("engine",), "engine"), ((), "engine")]
)
def test_an_engine_is_preferred_to_an_onnx_file(kinds: tuple[str, ...], chosen: str) -> None:
    assert TensorRtBackend.choose_artifact(kinds) == chosen


def test_an_engine_file_that_went_away_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"gone.engine cannot be read \(No such file.*check the file"):
        _engine_bytes(tmp_path / "gone.engine")


def test_what_stands_in_front_of_an_engine_is_left_out(tmp_path: Path) -> None:
    header = b'{"task": "detect"}'
    engine = tmp_path / "model.engine"
    engine.write_bytes(len(header).to_bytes(4, "little") + header + b"the engine")
    assert _engine_bytes(engine) == b"the engine"


def test_notes_are_taken_without_keeping_the_backend_alive(tmp_path: Path) -> None:
    backend = TensorRtBackend(BackendRequest.parse("tensorrt"), tmp_path / "model.engine")
    backend._info = BackendInfo(
        "tensorrt", "tensorrt", "cuda:0", "a GPU", "CUDA", "fp16", "tensorrt 8.6.0", (), (), {}, notes=("first",)
    )
    tell = backend._teller()
    tell("second")
    assert backend.info.notes == ("first", "second")
    there = weakref.ref(backend)
    gc.disable()
    try:
        del backend
        assert there() is None
    finally:
        gc.enable()
    tell("nobody listens")


class Bound:
    """What a runner has bound for a shape, without a graph."""

    no_graph_reason = "not here"

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def is_stale(self, context: object) -> bool:
        return False

    def close(self) -> None:
        pass


def test_a_later_shape_without_a_graph_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    runner = EngineRunner.__new__(EngineRunner)
    runner._tell, runner._want_graph, runner._bound = notes.append, True, None
    runner._context = ShapedContext(None, IMAGES, {})
    monkeypatch.setattr(runner, "_bind", Bound)
    for shape in ((1, 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8)):
        assert runner._bound_for(shape).shape == shape
    assert notes == ["no CUDA graph for the shape (1, 3, 8, 8): not here"]


def test_a_graph_of_the_plain_way_is_recorded_again_after_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = EngineRunner.__new__(EngineRunner)
    context = ShapedContext(SimpleNamespace(set_input_shape=lambda *_: True), IMAGES, {})
    runner._tell, runner._want_graph, runner._bound, runner._context = None, True, None, context
    graph = SimpleNamespace(close=lambda: None)

    def bind(shape: tuple[int, ...]) -> _Bound:
        context.set_shape(shape)
        buffer: Any = SimpleNamespace(close=lambda: None)
        return _Bound(shape, lambda: None, buffer, (), (), cast(Graph, graph), None, context.changes)

    monkeypatch.setattr(runner, "_bind", bind)
    first = runner._bound_for((1, 3, 8, 8))
    assert runner._bound_for((1, 3, 8, 8)) is first
    # The short way's batch of four on the same context, and one picture again.
    context.set_shape((4, 3, 8, 8))
    context.set_shape((1, 3, 8, 8))
    again = runner._bound_for((1, 3, 8, 8))
    assert again is not first and runner._bound_for((1, 3, 8, 8)) is again


GPU = GpuIdentity("NVIDIA H200", "9.0", 2**37)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What runners are given by name on a machine with TensorRT 8.6; there opening ends with "far enough"."""
    calls: list[dict[str, Any]] = []

    def stop(*_: Any, **how: Any) -> None:
        calls.append(how)
        raise BackendError("far enough")

    monkeypatch.setattr(tensorrt_backend, "gpu_identity", lambda _: GPU)
    monkeypatch.setattr(tensorrt_backend, "load_tensorrt", lambda _: fake_tensorrt((8, 6, 0)))
    monkeypatch.setattr(tensorrt_backend, "CudaSession", lambda _: None)
    monkeypatch.setattr(tensorrt_backend, "EngineRunner", stop)
    return calls


def write_engine(engine: Path, onnx: str = "m.onnx", **key: Any) -> None:
    """An engine of TensorRT 8.6 for that GPU with its manifest."""
    engine.write_bytes(b"plan")
    of = {"onnx_sha256": "a" * 64, "tensorrt_version": "8.6.0", "precision": "fp16", **key}
    identity = EngineKey(gpu_name=GPU.name, compute_capability=GPU.compute_capability, **of)
    sha256 = hashlib.sha256(b"plan").hexdigest()
    manifest_path(engine).write_text(EngineManifest(identity, sha256, 4, onnx).to_json())


def test_the_runtime_that_an_engine_brings_runs_only_where_it_is_allowed(
    given: list[dict[str, Any]], tmp_path: Path
) -> None:
    engine = tmp_path / "portable.engine"
    write_engine(engine, options={"versionCompatible": "true"})
    request = BackendRequest.parse("tensorrt")
    for allowed in (False, True):
        with pytest.raises(BackendError, match="far enough"):
            TensorRtBackend(request, engine, settings={"engine_host_code_allowed": allowed}).open()
    assert [how["host_code"] for how in given] == [False, True]
    assert "set tensorrt.engine_host_code_allowed to true" in explain("API Usage Error (host code is not allowed)")


SHARED = {PREVIEW: PROFILE_SHARING}
PORTABLE = {"versionCompatible": "true", "excludeLeanRuntime": "true"}


@pytest.mark.parametrize(
    ("version", "flavour", "built_with", "options", "host_code", "shares"),
    [
        ((8, 5, 3), "full", "8.5.3", {}, False, False),
        ((8, 6, 0), "full", "8.6.0", {}, False, False),
        ((8, 6, 0), "full", "8.6.0", SHARED, False, True),
        ((8, 6, 0), "full", None, {}, False, False),
        ((10, 3, 0), "full", "10.3.0", {}, False, True),
        ((10, 3, 0), "full", None, {}, False, True),
        # What runs it may be a runtime of 8.6 that it brings.
        ((10, 3, 0), "full", None, {}, True, False),
        ((10, 3, 0), "lean", None, {}, False, False),
        ((10, 3, 0), "dispatch", None, {}, False, False),
        ((10, 3, 0), "full", "8.6.0", PORTABLE, False, False),
        ((10, 3, 0), "lean", "8.6.0", PORTABLE | SHARED, False, False),
        ((10, 3, 0), "lean", "10.0.1", PORTABLE, False, True),
        ((10, 3, 0), "full", "8.4.3", PORTABLE, False, False),
    ],
)
def test_contexts_share_a_profile_only_where_that_is_known(
    given: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: tuple[int, ...],
    flavour: str,
    built_with: str | None,
    options: dict[str, str],
    host_code: bool,
    shares: bool,
) -> None:
    engine = tmp_path / "free.engine"
    if built_with is None:
        engine.write_bytes(b"plan")
    else:
        write_engine(engine, tensorrt_version=built_with, options=options)
    monkeypatch.setattr(tensorrt_backend, "load_tensorrt", lambda _: replace(fake_tensorrt(version), flavour=flavour))
    with pytest.raises(BackendError, match="far enough"):
        TensorRtBackend(
            BackendRequest.parse("tensorrt"), engine, settings={"engine_host_code_allowed": host_code}
        ).open()
    assert [how["shares_profile"] for how in given] == [shares]


@pytest.mark.parametrize("shares", [True, False])
def test_the_runner_takes_what_it_is_told_of_the_engine(monkeypatch: pytest.MonkeyPatch, shares: bool) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise BackendError("far enough")

    monkeypatch.setattr(EngineRunner, "_load", stop)
    session = SimpleNamespace(current=nullcontext, synchronize=lambda: None, close=lambda: None)
    runner = EngineRunner.__new__(EngineRunner)
    with pytest.raises(BackendError, match="far enough"):
        EngineRunner.__init__(
            runner,
            fake_tensorrt(),
            cast(CudaSession, session),
            b"plan",
            tell=lambda _: None,
            cuda_graph=True,
            shares_profile=shares,
        )
    assert runner._shares_profile == shares


def test_several_streams_where_there_is_one_context_are_one_and_a_note_says_so() -> None:
    backend = TensorRtBackend(BackendRequest.parse("tensorrt"), Path("free.engine"), settings={"streams": 3})
    notes: list[str] = []
    backend._add_notes = notes.append  # type: ignore[method-assign, assignment]

    def refused() -> None:
        raise BackendError("for one context")

    ranges = InputRange((1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 16, 16))
    runner = SimpleNamespace(range=ranges, session=SimpleNamespace(current=nullcontext), further_context=lambda: None)
    assert backend._streams(cast(EngineRunner, runner)) == 3 and notes == []
    runner.further_context = refused
    assert backend._streams(cast(EngineRunner, runner)) == 1
    assert notes == ["one stream instead of 3: for one context"]
    # A batch is one inference anyway.
    runner.range = replace(ranges, largest=(2, 3, 16, 16))
    assert backend._streams(cast(EngineRunner, runner)) == 3


@pytest.mark.usefixtures("given")
def test_an_engine_of_a_network_that_was_exported_anew_is_refused(tmp_path: Path) -> None:
    engine, onnx = tmp_path / "m.engine", tmp_path / "m.onnx"
    onnx.write_bytes(conv_model())
    write_engine(engine, str(onnx), onnx_sha256=onnx_digest(onnx))
    model = replace(load_model("digits"), artifacts={"engine": Artifact(engine), "onnx": Artifact(onnx)})

    def opened() -> None:
        create_backend(BackendRequest.parse("tensorrt"), model).open()

    with pytest.raises(BackendError, match="far enough"):
        opened()
    onnx.write_bytes(conv_model(channels=8))
    with pytest.raises(
        BackendError, match=r"onnx_sha256: built with .*; build it again with `.*--saveEngine .*m\.engine"
    ):
        opened()
    # Of a model that was made in Python the command names its file, not the one that the engine is of.
    model = replace(model, path=None, artifacts={"engine": Artifact(engine), "onnx": Artifact(tmp_path / "new.onnx")})
    (tmp_path / "new.onnx").write_bytes(conv_model(channels=8))
    with pytest.raises(BackendError, match=r"build-engine --onnx .*new\.onnx .*--saveEngine"):
        opened()
    # Without the file, or its weights, there is nothing to compare with.
    proto = onnx_library.load_from_string(conv_model())
    onnx_library.save(proto, str(tmp_path / "new.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(BackendError, match="far enough"):
        opened()
    (tmp_path / "new.onnx").unlink()
    with pytest.raises(BackendError, match="far enough"):
        opened()


class ContextWithoutProfile:
    """IExecutionContext of an engine whose one profile another context has."""

    active_optimization_profile = -1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.active_optimization_profile = index
        return True


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (None, 3, 8, 8)])
def test_a_further_context_of_free_sizes_needs_a_profile(shape: tuple[int | None, ...], shares: bool) -> None:
    contexts: list[ContextWithoutProfile] = []

    def create_execution_context() -> ContextWithoutProfile:
        contexts.append(ContextWithoutProfile())
        return contexts[-1]

    runner = EngineRunner.__new__(EngineRunner)
    runner._trt, runner.inputs = fake_tensorrt(), (TensorSpec("images", "float32", shape),)
    runner._engine = SimpleNamespace(create_execution_context=create_execution_context)
    runner._session = cast(CudaSession, SimpleNamespace(stream_handle=7, synchronize=lambda: None))
    runner._output_types, runner._shares_profile = {}, shares
    free = None in shape
    with (
        nullcontext()
        if shares or not free
        else pytest.raises(BackendError, match="not known to be built for more than one execution")
    ):
        runner.further_context()
    # Where it has none there must not even be a context, and where nothing is free there is nothing to choose.
    chosen = [context.active_optimization_profile for context in contexts]
    assert chosen == ([-1] if not free else [0] if shares else [])
