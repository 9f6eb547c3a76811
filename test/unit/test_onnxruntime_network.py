"""ONNX Runtime's sessions bound to fixed addresses, on the processor: its memory stands for the device's."""

from __future__ import annotations

import ctypes
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from test.driver_on_processor import compile_for_the_processor, driver_on_processor
from test.frames import random_frame
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.cuda_frames.driver import call
from trt_perception.backends.cuda_frames.network import BoundNetwork, DeviceNetwork, DeviceTensor
from trt_perception.backends.cuda_frames.path import CudaFramePath
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.frame_path import FramePlan
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_runtime.network import OnnxRuntimeNetwork
from trt_perception.backends.onnxruntime_runtime.options import CPU, OnnxRuntimeSettings
from trt_perception.backends.onnxruntime_runtime.sessions import Sessions
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


class Watched(Sessions):
    """Sessions on the processor, which note what they are asked for and what they give."""

    def __init__(self, path: Path) -> None:
        super().__init__(ort, path, BackendRequest.parse("onnxruntime:cpu"), OnnxRuntimeSettings(), [CPU], 0)
        self.asked: list[int | None] = []
        self.given: list[weakref.ref[Any]] = []

    def open(self, stream: int | None = None) -> Any:
        session = super().open(stream)
        self.asked.append(stream)
        self.given.append(weakref.ref(session))
        return session


def write(path: Path, nodes: list[Any], output: list[Any], image: list[Any] | None = None, kind: int = 1) -> Path:
    """kind: ONNX's number of the element type."""
    name = nodes[-1].output[0]
    constants = [("first_two", [0, 1]), ("rest", [-1]), ("one", [1])]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", kind, image or ["batch", 3, 8, 10])],
        [helper.make_tensor_value_info(name, kind, output)],
        [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def network_of(path: Path) -> tuple[OnnxRuntimeNetwork, Watched]:
    sessions = Watched(path)
    network = OnnxRuntimeNetwork(sessions, sessions.open(), PICTURE)
    sessions.asked.clear()
    return network, sessions


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


def test_sizes_that_the_file_leaves_open_are_those_of_a_run(tmp_path: Path) -> None:
    network, sessions = network_of(
        write(tmp_path / "n.onnx", CELLS, ["b", 3, "cells"], ["batch", 3, "height", "width"])
    )
    assert network.batches == (1, 8)
    for batch in (1, 3):
        bound, session = bind(network, batch)
        assert (bound.input.shape, bound.outputs[0].shape) == ((batch, 3, 8, 10), (batch, 3, 20))
        values(session, bound.input)[...] = pictures(batch)
        bound.enqueue()
        (expected,) = sessions.open().run(None, {"images": pictures(batch)})
        np.testing.assert_array_equal(values(session, bound.outputs[0]), expected)


def test_boxes_that_the_graph_chooses_are_refused_by_name(tmp_path: Path) -> None:
    chosen = [helper.make_node("NonZero", ["images"], ["z"]), helper.make_node("Cast", ["z"], ["chosen"], to=1)]
    with pytest.raises(BackendError, match=r"how large the output chosen \[4, 'count'\] is \(NonZero\)"):
        network_of(write(tmp_path / "n.onnx", chosen, [4, "count"], [1, 3, 8, 10]))


@pytest.mark.parametrize("free", [None, -1, 0])
def test_axes_without_a_name_have_nothing_in_common(free: int | None) -> None:
    def described(name: str, *shape: Any) -> Any:
        return SimpleNamespace(name=name, type="tensor(float)", shape=list(shape))

    def network(*output: Any, counts: tuple[str, ...] = ()) -> OnnxRuntimeNetwork:
        like = SimpleNamespace(
            get_inputs=lambda: [described("images", free, 3, 8, 10)], get_outputs=lambda: [described("boxes", *output)]
        )
        return OnnxRuntimeNetwork(cast(Sessions, SimpleNamespace(operators_of_any_size=counts)), like, PICTURE)

    assert network(free, 14, 20).batches == (1, 8)
    assert network(100, 7, counts=("NonMaxSuppression",)).batches == (1, 8)
    with pytest.raises(BackendError, match=r"how large the output boxes \[.*, 7\] is \(NonMaxSuppression\)"):
        network(free, 7, counts=("NonMaxSuppression",))


def test_what_counts_on_the_way_to_an_output_of_one_size_is_bound(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["images"], ["z"]),
        helper.make_node("Cast", ["z"], ["c"], to=1),
        helper.make_node("ReduceSum", ["c", "one"], ["sums"], keepdims=1),
    ]
    network, sessions = network_of(write(tmp_path / "n.onnx", nodes, [4, 1], [1, 3, 8, 10]))
    bound, session = bind(network)
    values(session, bound.input)[...] = pictures(1)
    bound.enqueue()
    (expected,) = sessions.open().run(None, {"images": pictures(1)})
    np.testing.assert_array_equal(values(session, bound.outputs[0]), expected)
    assert expected.any()


def test_batches_share_a_session_and_each_further_stream_has_its_own(tmp_path: Path) -> None:
    network, sessions = network_of(write(tmp_path / "n.onnx", RELU, ["batch", 3, 8, 10]))
    first, _ = bind(network)
    other, _ = bind(network, 2)
    assert sessions.asked == [77]
    second, session = bind(network, 1, 1)
    assert sessions.asked == [77, 77]
    values(session, second.input)[...] = pictures(1)
    second.enqueue()
    np.testing.assert_array_equal(values(session, second.outputs[0]), np.maximum(pictures(1), 0))

    def alive() -> list[bool]:
        gc.collect()
        return [session() is not None for session in sessions.given]

    # The first was only looked at.
    assert alive() == [False, True, True]
    second.close()
    assert alive() == [False, True, False]
    first.close()
    other.close()
    assert alive() == [False, True, False]
    network.close()
    assert alive() == [False, False, False]


@pytest.mark.parametrize("on_stream", [True, False])
def test_a_provider_with_a_stream_of_its_own_waits_for_ours(tmp_path: Path, on_stream: bool) -> None:
    network, sessions = network_of(write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10]))
    sessions.on_stream = on_stream
    bound, session = bind(network)
    before = session.waited
    bound.enqueue()
    bound.enqueue()
    assert session.waited - before == (0 if on_stream else 2)
    assert not bound.recordable


def test_a_session_that_cannot_be_had_is_a_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10])
    network, _ = network_of(path)
    path.unlink()
    with pytest.raises(BackendError, match="cannot load"):
        bind(network)


# --- whether a run can be recorded, with a stand-in for the driver that records copies ----------------------------


class Scripted:
    """A session whose runs are these calls, the last for all that follow; each gets the input and the output."""

    def __init__(self, session: Any, *runs: Any) -> None:
        self._session, self._runs = session, list(runs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def io_binding(self) -> Any:
        return ScriptedBinding()

    def run_with_iobinding(self, binding: ScriptedBinding, options: Any) -> None:
        run = self._runs.pop(0) if len(self._runs) > 1 else self._runs[0]
        if binding.target is None and run is not fails:
            return  # the first run, into memory of the session's own
        run(binding.source, binding.target)


class ScriptedBinding:
    """Of one input and one output as large."""

    def __init__(self) -> None:
        self.source = 0
        self.target: int | None = None

    def bind_input(self, name: str, device: str, index: int, dtype: Any, shape: list[int], address: int) -> None:
        self.source, self._shape = address, shape

    def bind_output(self, name: str, device: str, index: int, *memory: Any) -> None:
        self.target = memory[-1] if memory else None

    def clear_binding_outputs(self) -> None:
        self.target = None

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(shape=lambda: self._shape)]


SIZE = 3 * 8 * 10 * 4


def copies(source: int, target: int) -> None:
    """What a recording holds, and does again."""
    call("cuMemcpyDtoHAsync_v2", target, source, SIZE, 0)


def copies_at_once(source: int, target: int) -> None:
    """What a recording does not hold."""
    ctypes.memmove(target, source, SIZE)


def fails(source: int, target: int) -> None:
    raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing\n; GPU=0")


def never_again(source: int, target: int) -> None:
    raise RuntimeError("a recorded session was run")


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([copies], None),
        ([copies, copies, copies, fails, copies], "operation not permitted when stream is capturing"),
        ([copies_at_once], "a recorded run does not do what a plain one does"),
    ],
    ids=["recorded", "refused", "lost"],
)
def test_a_recording_is_tried_before_it_is_trusted(tmp_path: Path, runs: list[Any], reason: str | None) -> None:
    library = compile_for_the_processor("driver_on_processor.cpp", tmp_path / "libcuda.so")
    with driver_on_processor(library) as driver:
        network, sessions = network_of(write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10]))
        sessions.no_graph_reason, sessions.on_stream = None, True
        network._first = Scripted(sessions._open(None, graph=False), *runs)
        session = FrameSession(0)
        with session.current():
            bound = network.bind(session, 1, 0)
            assert bound.recordable == (reason is None)
            assert (reason or "") in (sessions.no_graph_reason or "")
            # Only what is recorded is not waited for.
            waits = "disable_synchronize_execution_providers" not in str(entries(bound._options))
            assert waits == (reason is not None)
            bound.close()
        network.close()
        session.close()
        assert driver.test_live_objects() == 0


def test_a_recorded_session_does_nothing_else(tmp_path: Path) -> None:
    library = compile_for_the_processor("driver_on_processor.cpp", tmp_path / "libcuda.so")
    with driver_on_processor(library):
        network, sessions = network_of(write(tmp_path / "n.onnx", RELU, ["batch", 3, 8, 10]))
        sessions.no_graph_reason, sessions.on_stream = None, True
        recorded = Scripted(sessions._open(None, graph=False), *[copies] * 8, fails, never_again)
        network._first = recorded
        session = FrameSession(0)
        with session.current():
            one, again = network.bind(session, 1, 0), network.bind(session, 1, 0)
            assert (one.recordable, one._runner) == (True, recorded)
            assert not again.recordable and again._runner is not recorded
            assert "not permitted" in str(sessions.no_graph_reason)
            # It is known by now, so that the recorded one is not even tried.
            third = network.bind(session, 1, 0)
            assert not third.recordable and third._runner is not recorded
            assert len(recorded._runs) == 1
            for bound in (one, again, third):
                bound.close()
        network.close()
        session.close()


def entries(options: Any) -> list[str]:
    names = ("disable_synchronize_execution_providers", "gpu_graph_id")
    found = []
    for name in names:
        with suppress(RuntimeError):
            options.get_run_config_entry(name)
            found.append(name)
    return found


def test_tensors_of_a_network_that_fails_at_once_are_freed(tmp_path: Path) -> None:
    network, sessions = network_of(write(tmp_path / "n.onnx", RELU, [1, 3, 8, 10], [1, 3, 8, 10]))
    network._first = Scripted(sessions.open(), fails)
    session = HostSession()
    with pytest.raises(BackendError, match="ONNX Runtime failed on the GPU: CUDA failure 900"):
        network.bind(cast(FrameSession, session), 1, 0)
    assert len(session.memory) == 1 and all(memory.closed for memory in session.memory)


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
                network = OnnxRuntimeNetwork(backend._sessions, backend._session, plan.input)
                turn, streams = threading.RLock(), backend.settings.streams
                path = CudaFramePath(network, session, plan, turn, tell=backend._add_notes, streams=streams)
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
        assert detector.info.notes == ("no CUDA graph: CPUExecutionProvider launches by itself",)
        together = max(detector.max_batch or 0, 1)
        assert together > 1
        for result, wanted in zip(detector.detect_batch(scenes[:together]), expected[:together], strict=True):
            same(result.detections, wanted)
        same(detector.detect(nv12).detections, expected_in_noise)
