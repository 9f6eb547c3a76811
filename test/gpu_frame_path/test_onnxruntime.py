"""ONNX Runtime's short way on a real GPU: tensors at fixed addresses on our stream, CUDA graphs, batches, streams."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from test.frames import random_frame
from test.gpu.frame_checks import on_the_device
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.frame_path import FramePath, FramePlan, Survivors
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.class_choice import ClassChoice
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.model_file import Artifact, InputSpec, ModelFile
from trt_perception.models import load_model
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.preprocess import Preprocessor
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Thresholds

onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx: Any = pytest.importorskip("onnx", reason="the onnx package makes the test's networks")
if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
    pytest.skip("this onnxruntime was built without CUDA", allow_module_level=True)

helper = onnx.helper
PICTURE = InputSpec(96, 64)
# The outputs come down as they are: of this head the kernels choose nothing.
PLAN = FramePlan(PICTURE, "detr", False, 0)
CHOICE = ClassChoice(Thresholds(score=0.5), ("a", "b", "c"))
REQUEST = BackendRequest.parse("onnxruntime:cuda")
HALF, SINGLE = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """CUDA's libraries of torch's wheels, where onnxruntime itself lies elsewhere and does not find them."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


CONVOLUTIONS = [
    node("Conv", "images w0", "a", pads=[1, 1, 1, 1]),
    node("Relu", "a", "b"),
    node("Conv", "b w1", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
    node("Sigmoid", "c", "y"),
]
CONVOLVED: list[Any] = ["batch", 8, 32, 48]


def write(
    path: Path, nodes: Sequence[Any], shape: list[Any], batch: Any = 1, kind: int = SINGLE, given: Any = (64, 96)
) -> Path:
    """A network from `images` to `y`; kind: ONNX's number of its element type."""
    dtype = np.float16 if kind == HALF else np.float32
    rng = np.random.default_rng(5)
    constants: dict[str, NDArray[Any]] = {
        "w0": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(dtype),
        "w1": rng.normal(0, 0.3, (8, 8, 3, 3)).astype(dtype),
        "ones": np.ones(64, np.int64),
        "last": np.array([1], np.int64),
        "kept": np.array([0, 1], np.int64),
        "rest": np.array([-1], np.int64),
        "start": np.array([10, 10], np.int64),
        "end": np.array([13, 13], np.int64),
        "axes": np.array([2, 3], np.int64),
    }
    used = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("images", kind, [batch, 3, *given])],
        [helper.make_tensor_value_info("y", kind, [batch if size == "batch" else size for size in shape])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@contextmanager
def opened(path: Path, **settings: Any) -> Iterator[OnnxRuntimeBackend]:
    with OnnxRuntimeBackend(REQUEST, path, settings=settings) as backend:
        yield backend


def path_of(backend: OnnxRuntimeBackend, plan: FramePlan = PLAN) -> FramePath:
    path = backend.frame_path(plan)
    assert path is not None and not isinstance(path, str), path
    return path


def raw(path: FramePath, frames: Sequence[CameraFrame]) -> list[NDArray[Any]]:
    found = path.run(frames, CHOICE).found
    assert not any(isinstance(one, Survivors) for one in found)
    return [np.array(one[0]) for one in found]  # type: ignore[index]


def plain(backend: OnnxRuntimeBackend, frame: CameraFrame) -> NDArray[Any]:
    tensor, _ = Preprocessor(PICTURE)(decode_frame(frame))
    dtype = backend.info.inputs[0].dtype
    (array,) = backend.infer(tensor.astype(dtype)).arrays
    return np.array(array, np.float32)


def graph_notes(backend: OnnxRuntimeBackend) -> list[str]:
    return [note for note in backend.info.notes if "CUDA graph" in note]


FRAMES = [
    random_frame("bgr8", 64, 48, 1),
    random_frame("nv12", 320, 180, 2),
    random_frame("mono8", 90, 302, 3),
    random_frame("bgr8", 1280, 720, 4),
]


# --- a run at fixed addresses is the plain run ------------------------------------------------------------------


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "no graph"])
@pytest.mark.parametrize("kind", [SINGLE, HALF], ids=["fp32", "fp16"])
def test_outputs_are_the_plain_ways(tmp_path: Path, kind: int, graph: bool) -> None:
    with opened(write(tmp_path / "n.onnx", CONVOLUTIONS, CONVOLVED, kind=kind), cuda_graph=graph) as backend:
        path = path_of(backend)
        assert graph_notes(backend) == ([] if graph else ["no CUDA graph: switched off by the setting cuda_graph"])
        for frame in FRAMES * 3:
            (found,) = raw(path, [frame])
            np.testing.assert_array_equal(found, plain(backend, frame))
            assert found.std() > 0 and found.shape == (1, 8, 32, 48)


def test_both_ways_from_several_threads(tmp_path: Path) -> None:
    with opened(write(tmp_path / "n.onnx", CONVOLUTIONS, CONVOLVED)) as backend:
        path = path_of(backend)
        expected = [plain(backend, frame) for frame in FRAMES]
        failed: list[str] = []

        def work(offset: int) -> None:
            for turn in range(40):
                place = (turn + offset) % len(FRAMES)
                found = plain(backend, FRAMES[place]) if turn % 5 == 0 else raw(path, [FRAMES[place]])[0]
                if not np.array_equal(found, expected[place]):
                    failed.append(f"thread {offset}, turn {turn}")

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "no graph"])
def test_batches_of_a_free_batch(tmp_path: Path, graph: bool) -> None:
    with opened(write(tmp_path / "n.onnx", CONVOLUTIONS, CONVOLVED, "batch"), cuda_graph=graph) as backend:
        path = path_of(backend)
        assert path.max_batch == 8
        expected = [plain(backend, frame) for frame in FRAMES]
        for count in (1, 4, 2, 4, 1, 3, 1):
            for found, wanted in zip(raw(path, FRAMES[:count]), expected, strict=False):
                # Another batch, another order of summation; TF32 has 10 bits.
                np.testing.assert_allclose(found, wanted, atol=2e-3)
        # Further batches have added none.
        assert graph_notes(backend) == ([] if graph else ["no CUDA graph: switched off by the setting cuda_graph"])


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "no graph"])
def test_a_batch_of_one_on_several_streams(tmp_path: Path, graph: bool) -> None:
    path_to = write(tmp_path / "n.onnx", CONVOLUTIONS, CONVOLVED)
    with opened(path_to, streams=4, cuda_graph=graph) as backend:
        path = path_of(backend)
        assert path.max_batch == 4
        expected = [plain(backend, frame) for frame in FRAMES]
        for count in (4, 1, 3, 4, 2):
            for found, wanted in zip(raw(path, FRAMES[:count]), expected, strict=False):
                np.testing.assert_allclose(found, wanted, atol=2e-3)
        assert graph_notes(backend) == ([] if graph else ["no CUDA graph: switched off by the setting cuda_graph"])


@pytest.mark.parametrize("layout", ["on", "off"])
def test_how_channels_lie_changes_the_rounding_alone(tmp_path: Path, layout: str) -> None:
    file = write(tmp_path / "n.onnx", CONVOLUTIONS, CONVOLVED)
    with opened(file, prefer_nhwc=layout) as backend, opened(file) as judge:
        path = path_of(backend)
        assert not graph_notes(backend)
        for frame in FRAMES:
            np.testing.assert_allclose(raw(path, [frame])[0], plain(judge, frame), atol=2e-3)


# --- networks that something stands in the way of -------------------------------------------------------------


def test_sizes_that_the_network_leaves_open_are_the_pictures(tmp_path: Path) -> None:
    nodes = [
        *CONVOLUTIONS[:3],
        node("Shape", "c", "shape"),
        node("Gather", "shape kept", "two"),
        node("Concat", "two rest", "flat", axis=0),
        node("Reshape", "c flat", "y"),
    ]
    with opened(write(tmp_path / "n.onnx", nodes, ["batch", 8, "cells"], "batch", given=("h", "w"))) as backend:
        path = path_of(backend)
        # With channels last it would be none, so that channels first are taken.
        assert (path.max_batch, graph_notes(backend)) == (8, [])
        for frame in FRAMES:
            np.testing.assert_allclose(raw(path, [frame])[0], plain(backend, frame), atol=1e-2)


def test_boxes_that_the_network_chooses_itself_take_the_plain_way(tmp_path: Path) -> None:
    nodes = [node("NonZero", "images", "z"), node("Cast", "z", "y", to=SINGLE)]
    with opened(write(tmp_path / "n.onnx", nodes, [4, "count"])) as backend:
        assert "only the run tells how large the output y [4, 'count'] is (NonZero)" in str(backend.frame_path(PLAN))
        assert plain(backend, FRAMES[0]).shape[0] == 4


# Networks that are no CUDA graph, and what is said of each.
IN_THE_WAY = {
    "a node on the processor": (
        [node("Slice", "images start end axes", "s"), node("Det", "s", "y")],
        [1, 3],
        "not been partitioned to the CUDAExecutionProvider",
    ),
    "a count on the way": (
        [
            node("NonZero", "images", "z"),
            node("Cast", "z", "c", to=SINGLE),
            node("ReduceSum", "c last", "y", keepdims=1),
        ],
        [4, 1],
        "the network counts while it runs (NonZero)",
    ),
    "many addresses": (
        [
            node("Split", "images ones", " ".join(f"p{i}" for i in range(64)), axis=2),
            node("Concat", " ".join(f"p{i}" for i in reversed(range(64))), "y", axis=2),
        ],
        [1, 3, 64, 96],
        "ONNX Runtime failed on the GPU",
    ),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_what_cannot_be_recorded_runs_without_a_graph_and_says_why(tmp_path: Path, name: str) -> None:
    nodes, shape, reason = IN_THE_WAY[name]
    with opened(write(tmp_path / "n.onnx", nodes, shape)) as backend:
        path = path_of(backend)
        assert [reason in note for note in graph_notes(backend)] == [True], graph_notes(backend)
        for frame in FRAMES * 2:
            np.testing.assert_allclose(raw(path, [frame])[0], plain(backend, frame), rtol=1e-4)


def test_a_process_ends_well_after_runs_that_used_page_locked_memory(tmp_path: Path) -> None:
    # onnxruntime 1.31 ends it with SIGABRT where a session goes whose runs were not waited for.
    nodes, shape, _ = IN_THE_WAY["many addresses"]
    model = write(tmp_path / "n.onnx", nodes, shape)
    code = f"""
import importlib.util
if importlib.util.find_spec("torch"):
    import torch
from pathlib import Path
from test.gpu_frame_path.test_onnxruntime import CHOICE, FRAMES, OnnxRuntimeBackend, PLAN, REQUEST
for settings in ({{}}, {{"cuda_graph": False}}):
    with OnnxRuntimeBackend(REQUEST, Path({str(model)!r}), settings=settings) as backend:
        path = backend.frame_path(PLAN)
        for _ in range(20):
            path.run(FRAMES[:1], CHOICE)
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["ended"]), done.stderr[-2000:]


# --- the demo model -------------------------------------------------------------------------------------------


def test_the_demo_model_in_half_precision(tmp_path: Path) -> None:
    from trt_perception.engine.half_precision import convert_to_half

    model: ModelFile = load_model("digits")
    half = tmp_path / "digits_fp16.onnx"
    half.write_bytes(convert_to_half(model.artifacts["onnx"].path.read_bytes()))
    scenes = [scene.image_bgr for scene in heldout_scenes(10, 640, 480, 5)]
    settings = {"onnxruntime": {"device_path": False}}
    halved = replace(model, artifacts={"onnx": Artifact(half)})
    with (
        Detector.open(halved, "onnxruntime:cuda") as detector,
        Detector.open(halved, "onnxruntime:cuda", settings=settings) as judge,
    ):
        assert on_the_device(detector).info.precision == "fp16"
        for scene in scenes:
            found, wanted = detector.detect(scene).detections, judge.detect(scene).detections
            assert len(wanted) > 0
            np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=5e-3)
