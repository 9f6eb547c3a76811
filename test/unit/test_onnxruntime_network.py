"""ONNX Runtime's sessions bound to fixed addresses, on the processor: its memory stands for the device's."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from test.driver_on_processor import compile_for_the_processor, driver_on_processor
from test.frames import random_frame
from trt_perception.backends.cuda_frames.network import BoundNetwork, DeviceNetwork, DeviceTensor
from trt_perception.backends.cuda_frames.path import CudaFramePath
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.frame_path import FramePlan
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_runtime.network import OnnxRuntimeNetwork, SessionSource
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.errors import BackendError
from trt_perception.evaluation import pairwise_iou
from trt_perception.model_file import InputSpec
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Detections

onnx: Any = pytest.importorskip("onnx", reason="the onnx package makes the test's networks")
ort: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

helper = onnx.helper
PICTURE = InputSpec(10, 8)
RELU = [helper.make_node("Relu", ["images"], ["same"])]
# Boxes of cells of 2x2, which the graph counts while it runs.
CELLS = [
    helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
    helper.make_node("Shape", ["pooled"], ["shape"]),
    helper.make_node("Gather", ["shape", "first_two"], ["kept"]),
    helper.make_node("Concat", ["kept", "rest"], ["flat"], axis=0),
    helper.make_node("Reshape", ["pooled", "flat"], ["cells"]),
]


@dataclass
class Memory:
    array: NDArray[np.uint8]
    closed: bool = False

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    def close(self) -> None:
        self.closed = True


@dataclass
class HostSession:
    """What of a FrameSession binding needs, in the host's memory."""

    stream_handle: int = 77
    memory: list[Memory] = field(default_factory=list)
    waited: int = 0

    def zeroed(self, size: int) -> Memory:
        self.memory.append(Memory(np.zeros(size, np.uint8)))
        return self.memory[-1]

    def synchronize(self) -> None:
        self.waited += 1


class Opener:
    """Opens sessions of one file on the processor, and notes with what it was asked to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked: list[tuple[int, dict[str, int]]] = []
        self.sessions: list[weakref.ref[Any]] = []

    def __call__(self, stream: int = 0, axes: Mapping[str, int] | None = None) -> Any:
        self.asked.append((stream, dict(axes or {})))
        options = ort.SessionOptions()
        for name, size in (axes or {}).items():
            options.add_free_dimension_override_by_name(name, size)
        session = ort.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        self.sessions.append(weakref.ref(session))
        return session


def write(path: Path, nodes: list[Any], output: list[Any], image: list[Any] | None = None, kind: int = 1) -> Path:
    """kind: ONNX's number of the element type."""
    name = nodes[-1].output[0]
    constants = [("first_two", [0, 1]), ("rest", [-1])]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", kind, image or ["batch", 3, 8, 10])],
        [helper.make_tensor_value_info(name, kind, output)],
        [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def network_of(path: Path, *, on_stream: bool = True) -> tuple[OnnxRuntimeNetwork, Opener]:
    opener = Opener(path)
    options = ort.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    source = SessionSource(opener, options, "cpu", 0, recordable=False, on_stream=on_stream)
    network = OnnxRuntimeNetwork(opener(), source, PICTURE)
    opener.asked.clear()
    return network, opener


def bind(network: OnnxRuntimeNetwork, batch: int = 1, index: int = 0) -> tuple[BoundNetwork, HostSession]:
    session = HostSession()
    return cast(DeviceNetwork, network).bind(cast(FrameSession, session), batch, index), session


def values(session: HostSession, tensor: DeviceTensor) -> NDArray[Any]:
    (memory,) = [m for m in session.memory if m.address == tensor.address]
    return memory.array.view(tensor.dtype).reshape(tensor.shape)


def pictures(batch: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(batch, 3, 8, 10)).astype(np.float32)


@pytest.mark.parametrize(("kind", "dtype"), [(1, "float32"), (10, "float16")])
def test_a_run_reads_and_writes_where_it_was_told(tmp_path: Path, kind: int, dtype: str) -> None:
    network, _ = network_of(write(tmp_path / "n.onnx", RELU, ["batch", 3, 8, 10], kind=kind))
    assert (network.input_dtype, network.batches) == (dtype, (1, 8))
    for batch in (1, 3):
        bound, session = bind(network, batch)
        assert (bound.input.dtype, bound.input.shape) == (dtype, (batch, 3, 8, 10))
        (output,) = bound.outputs
        for seed in range(3):
            values(session, bound.input)[...] = pictures(batch, seed)
            bound.enqueue()
            np.testing.assert_array_equal(values(session, output), np.maximum(values(session, bound.input), 0))
            assert values(session, output).any()
        bound.close()
        assert all(memory.closed for memory in session.memory)
        bound.close()


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_told(tmp_path: Path, batch: int) -> None:
    network, _ = network_of(write(tmp_path / "n.onnx", RELU, [batch, 3, 8, 10], [batch, 3, 8, 10]))
    assert network.batches == (batch, batch)
    assert bind(network, batch)[0].outputs[0].shape == (batch, 3, 8, 10)


def test_free_sizes_of_the_input_are_fixed_where_the_outputs_depend_on_them(tmp_path: Path) -> None:
    path = write(tmp_path / "n.onnx", CELLS, ["batch", 3, "cells"], ["batch", 3, "height", "width"])
    network, opener = network_of(path)
    assert network.batches == (1, 1)
    bound, session = bind(network)
    assert opener.asked == [(77, {"batch": 1, "height": 8, "width": 10})]
    assert bound.outputs[0].shape == (1, 3, 20)
    values(session, bound.input)[...] = pictures(1)
    bound.enqueue()
    (expected,) = opener().run(None, {"images": pictures(1)})
    np.testing.assert_array_equal(values(session, bound.outputs[0]), expected)


def test_free_sizes_that_no_output_depends_on_stay_free(tmp_path: Path) -> None:
    mean = [helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0)]
    path = write(tmp_path / "n.onnx", mean, ["batch", 3], ["batch", 3, "height", "width"])
    network, opener = network_of(path)
    bound, _ = bind(network, 2)
    assert not opener.asked
    assert (bound.input.shape, bound.outputs[0].shape) == ((2, 3, 8, 10), (2, 3))


def test_boxes_that_the_graph_chooses_are_refused_by_name(tmp_path: Path) -> None:
    chosen = [helper.make_node("NonZero", ["images"], ["z"]), helper.make_node("Cast", ["z"], ["chosen"], to=1)]
    network, _ = network_of(write(tmp_path / "n.onnx", chosen, [4, "count"], [1, 3, 8, 10]))
    with pytest.raises(BackendError, match=r"only while it runs how large its output chosen \[4, 'count'\] is"):
        bind(network)


def test_a_shape_that_the_graph_only_declares_is_refused(tmp_path: Path) -> None:
    # The graph's own arithmetic hides the size from ONNX Runtime until it runs.
    nodes = [
        helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "sum"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["large"], to=7),
        helper.make_node("Clip", ["large", "four", "four"], ["four_again"]),
        helper.make_node("Unsqueeze", ["four_again", "zero"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["declared"]),
    ]
    path = write(tmp_path / "n.onnx", nodes, [5], [1, 3, 8, 10])
    model = onnx.load(str(path))
    for name, value in (("four", np.array(4, np.int64)), ("zero", np.array([0], np.int64))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(model, str(path))
    network, _ = network_of(path)
    with pytest.raises(BackendError, match=r"failed on the GPU: .*(declared|Got: 5)"):
        bind(network)


def test_each_further_stream_has_a_session_of_its_own_which_goes_with_it(tmp_path: Path) -> None:
    network, opener = network_of(write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10]))
    first, _ = bind(network)
    assert not opener.asked
    second, session = bind(network, 1, 1)
    assert opener.asked == [(77, {})]
    values(session, second.input)[...] = pictures(1)
    second.enqueue()
    np.testing.assert_array_equal(values(session, second.outputs[0]), np.maximum(pictures(1), 0))
    second.close()
    gc.collect()
    assert [alive() is not None for alive in opener.sessions] == [True, False]
    first.close()
    network.close()
    gc.collect()
    assert opener.sessions[0]() is None


def test_a_provider_with_a_stream_of_its_own_waits_for_ours(tmp_path: Path) -> None:
    path = write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10])
    waits = {}
    for on_stream in (True, False):
        bound, session = bind(network_of(path, on_stream=on_stream)[0])
        before = session.waited
        bound.enqueue()
        bound.enqueue()
        waits[on_stream] = session.waited - before
        assert not bound.recordable
    assert waits == {True: 0, False: 2}


class Refuses:
    """A session whose runs fail from the one of that number on; the first three are its trial runs."""

    def __init__(self, session: Any, first: int) -> None:
        self._session, self._left = session, first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, *arguments: Any) -> None:
        self._left -= 1
        if self._left <= 0:
            raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing\n; GPU=0")
        self._session.run_with_iobinding(*arguments)


@pytest.mark.parametrize(("fails_from", "recordable"), [(100, True), (4, False)], ids=["recorded", "refused"])
def test_a_run_is_recorded_once_to_see_whether_it_can_be(tmp_path: Path, fails_from: int, recordable: bool) -> None:
    path = write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10])
    library = compile_for_the_processor("driver_on_processor.cpp", tmp_path / "libcuda.so")
    with driver_on_processor(library) as driver:
        session = FrameSession(0)
        source = SessionSource(Opener(path), ort.RunOptions(), "cpu", 0, recordable=True, on_stream=True)
        network = OnnxRuntimeNetwork(Refuses(Opener(path)(), fails_from), source, PICTURE)
        with session.current():
            bound = network.bind(session, 1, 0)
            assert bound.recordable == recordable
            reason = None if recordable else "operation not permitted when stream is capturing"
            assert bound.no_graph_reason == network.no_graph_reason
            assert (reason is None) == recordable and (reason or "") in (bound.no_graph_reason or "")
            bound.close()
        network.close()
        session.close()
        assert driver.test_live_objects() == 0


def test_tensors_of_a_network_that_fails_at_once_are_freed(tmp_path: Path) -> None:
    path = write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10])
    source = SessionSource(Opener(path), ort.RunOptions(), "cpu", 0, recordable=False, on_stream=True)
    session = HostSession()
    with pytest.raises(BackendError, match="ONNX Runtime failed on the GPU: CUDA failure 900"):
        OnnxRuntimeNetwork(Refuses(Opener(path)(), 1), source, PICTURE).bind(cast(FrameSession, session), 1, 0)
    assert len(session.memory) == 2 and all(memory.closed for memory in session.memory)


def test_a_session_that_cannot_be_had_is_a_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10])
    network, _ = network_of(path)
    path.unlink()
    with pytest.raises(BackendError, match="no session for this"):
        bind(network, 1, 1)


# --- frames through the whole short way, with the driver's and the kernels' work done by the processor -----------


@pytest.fixture
def short_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives ONNX Runtime on the processor the short way that it has on a GPU."""
    library = compile_for_the_processor("driver_on_processor.cpp", tmp_path / "libcuda.so")
    with driver_on_processor(library) as driver:
        with ExitStack() as undo:

            def frame_path(backend: OnnxRuntimeBackend, plan: FramePlan) -> CudaFramePath:
                session = FrameSession(0)
                undo.callback(session.close)
                made = backend._sessions
                source = SessionSource(made.open, made.run_options(wait=False), "cpu", 0, False, True)
                network = OnnxRuntimeNetwork(backend._session, source, plan.input)
                path = CudaFramePath(network, session, plan, threading.RLock(), streams=backend.settings.streams)
                undo.callback(path.close)
                return path

            monkeypatch.setattr(OnnxRuntimeBackend, "frame_path", frame_path)
            yield
        assert driver.test_live_objects() == 0
        assert driver.test_calls_without_context() == 0


def same(found: Detections, wanted: Detections) -> None:
    np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)
    assert np.diag(pairwise_iou(found.boxes_xyxy, wanted.boxes_xyxy)).min(initial=1.0) >= 0.99


def test_the_demo_model_finds_the_same_either_way(request: pytest.FixtureRequest) -> None:
    scenes = [scene.image_bgr for scene in heldout_scenes(8, 640, 480, 5)]
    with Detector.open("digits", "onnxruntime:cpu") as detector:
        expected = [detector.detect(scene).detections for scene in scenes]
        nv12 = random_frame("nv12", 320, 240)
        expected_in_noise = detector.detect(decode_frame(nv12)).detections
    assert sum(map(len, expected)) > 20
    request.getfixturevalue("short_way")
    with Detector.open("digits", "onnxruntime:cpu", settings={"onnxruntime": {"streams": 3}}) as detector:
        assert detector.takes(nv12)
        for scene, wanted in zip(scenes, expected, strict=True):
            result = detector.detect(scene)
            same(result.detections, wanted)
            assert result.times.host_to_device_ns is not None and result.times.around_on_device_ns > 0
        together = max(detector.max_batch or 0, 1)
        assert together > 1
        for result, wanted in zip(detector.detect_batch(scenes[:together]), expected[:together], strict=True):
            same(result.detections, wanted)
        same(detector.detect(nv12).detections, expected_in_noise)
