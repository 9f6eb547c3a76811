"""ONNX Runtime's short way against the plain one, on the processor: the same graphs that a GPU runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from test.frames import LETTERBOX, SIZES, SPECS, assert_same_input, random_frame
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.backends.frame_sampling import SOURCE_LAYOUTS
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_frame_path import GRAPHS, OnnxRuntimeFramePath
from trt_perception.class_choice import ClassChoice
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.errors import BackendError
from trt_perception.evaluation import pairwise_iou
from trt_perception.heads import HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.preprocess import Preprocessor
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Thresholds

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnx: Any = pytest.importorskip("onnx", reason="the onnx package makes the test's networks")

CLASSES = 3
CHOICE = ClassChoice(Thresholds(score=0.5), ("a", "b", "c"))
CPU = ("CPUExecutionProvider", "cpu")


def write_network(path: Path, nodes: list[Any], shape: list[int | str], *constants: Any) -> Path:
    helper = onnx.helper
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, "c", "h", "w"])],
        [helper.make_tensor_value_info("output0", onnx.TensorProto.FLOAT, shape)],
        list(constants),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def copies_its_input(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnnxRuntimeBackend]:
    nodes = [onnx.helper.make_node("Identity", ["images"], ["output0"])]
    path = write_network(tmp_path_factory.mktemp("copy") / "copy.onnx", nodes, [1, "c", "h", "w"])
    with OnnxRuntimeBackend(BackendRequest.parse("onnxruntime:cpu"), path) as backend:
        yield backend


def tensor_of(backend: OnnxRuntimeBackend, frame: CameraFrame, spec: InputSpec) -> NDArray[np.float32]:
    path = backend.make_frame_path(FramePlan(spec, "detr", False, 0), *CPU)
    (found,) = path.run([frame], CHOICE).found
    assert not isinstance(found, Survivors)
    return found[0].copy()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SPECS)
def test_the_input_is_the_preprocessors(copies_its_input: OnnxRuntimeBackend, name: str, size: tuple[int, int]) -> None:
    frame = random_frame("bgr8", *size)
    expected, _ = Preprocessor(SPECS[name])(decode_frame(frame))
    assert_same_input(tensor_of(copies_its_input, frame, SPECS[name]), expected, SPECS[name])


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("encoding", SOURCE_LAYOUTS)
def test_every_encoding_with_and_without_padding(
    copies_its_input: OnnxRuntimeBackend, encoding: str, color: Any
) -> None:
    spec = replace(LETTERBOX, color_order=color)
    for padding in (0, 6):
        frame = random_frame(encoding, 330, 190, 3, padding)
        expected, _ = Preprocessor(spec)(decode_frame(frame))
        np.testing.assert_array_equal(tensor_of(copies_its_input, frame, spec), expected)


def test_the_graphs_are_those_that_the_tool_writes() -> None:
    from tools.frame_graphs import models

    for name, model in models().items():
        assert onnx.load(str(GRAPHS / name)) == model, f"{name} is another; run `python -m tools.frame_graphs`"
    assert {path.name for path in GRAPHS.iterdir()} == set(models())


# --- choosing candidates ---------------------------------------------------------------------------------------


def outputs_of(head: str) -> NDArray[np.float32]:
    """500 random boxes with scores over the whole range, in the head's layout."""
    rng = np.random.default_rng(1)
    boxes = np.concatenate((rng.uniform(0, 160, (1, 500, 2)), rng.uniform(10, 60, (1, 500, 2))), axis=2)
    scores = rng.uniform(0, 1, (1, 500, CLASSES)) ** 3
    if head == "yolov8":
        return np.concatenate((boxes, scores), axis=2).transpose(0, 2, 1).astype(np.float32).copy()
    return np.concatenate((boxes, rng.uniform(0.5, 1, (1, 500, 1)), scores), axis=2).astype(np.float32)


def path_over(head: str, outputs: NDArray[np.float32], folder: Path) -> tuple[OnnxRuntimeBackend, OnnxRuntimeFramePath]:
    """A path over a network that gives these outputs whatever it is shown."""
    value = onnx.numpy_helper.from_array(outputs, "value")
    nodes = [
        onnx.helper.make_node("ReduceMax", ["images"], ["highest"], keepdims=0),
        onnx.helper.make_node("Mul", ["highest", "zero"], ["nothing"]),
        onnx.helper.make_node("Add", ["value", "nothing"], ["output0"]),
    ]
    zero = onnx.numpy_helper.from_array(np.array(0, np.float32), "zero")
    network = write_network(folder / "fixed.onnx", nodes, list(outputs.shape), value, zero)
    backend = OnnxRuntimeBackend(BackendRequest.parse("onnxruntime:cpu"), network)
    backend.open()
    return backend, backend.make_frame_path(FramePlan(LETTERBOX, head, True, CLASSES), *CPU)


@pytest.mark.parametrize("head", ["yolov8", "yolov5"])
def test_only_candidates_come_down_and_the_head_finds_the_same_in_them(head: str, tmp_path: Path) -> None:
    outputs = outputs_of(head)
    context = HeadContext(160, 128, CLASSES)
    backend, path = path_over(head, outputs, tmp_path)
    with backend:
        for score in (0.6, 0.1, 1.0):
            choice = ClassChoice(Thresholds(score=score), ("a", "b", "c"))
            (found,) = path.run([random_frame("bgr8", 64, 48)], choice).found
            assert not isinstance(found, Survivors)
            expected = head_for(head).decode([outputs], score, context)
            again = head_for(head).decode(found, score, context)
            assert found[0].size == len(expected.scores) * (outputs.size // 500)
            np.testing.assert_array_equal(again.boxes_xyxy, expected.boxes_xyxy)
            np.testing.assert_array_equal(again.scores, expected.scores)
            np.testing.assert_array_equal(again.class_ids, expected.class_ids)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_with_a_score_that_is_not_finite_come_down_whole(value: float, tmp_path: Path) -> None:
    outputs = outputs_of("yolov8")
    outputs[0, 5, 7] = value
    backend, path = path_over("yolov8", outputs, tmp_path)
    with backend:
        (found,) = path.run([random_frame("bgr8", 64, 48)], CHOICE).found
        assert not isinstance(found, Survivors)
        np.testing.assert_array_equal(found[0], outputs)


def test_one_frame_at_a_time_and_none_after_close(tmp_path: Path) -> None:
    backend, path = path_over("yolov8", outputs_of("yolov8"), tmp_path)
    frame = random_frame("bgr8", 64, 48)
    with backend:
        with pytest.raises(BackendError, match="got 2 frames; this way takes 1"):
            path.run([frame, frame], CHOICE)
        path.run([frame], CHOICE)
        path.close()
        with pytest.raises(BackendError, match="takes 0"):
            path.run([frame], CHOICE)


def test_the_demo_model_finds_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [scene.image_bgr for scene in heldout_scenes(8, 640, 480, 5)]
    with Detector.open("digits", "onnxruntime:cpu") as detector:
        expected = [detector.detect(scene).detections for scene in scenes]

    def on_the_processor(backend: OnnxRuntimeBackend, plan: FramePlan) -> OnnxRuntimeFramePath:
        return backend.make_frame_path(plan, *CPU)

    monkeypatch.setattr(OnnxRuntimeBackend, "frame_path", on_the_processor)
    with Detector.open("digits", "onnxruntime:cpu") as detector:
        results = [detector.detect(scene) for scene in scenes]
    assert sum(map(len, expected)) > 20
    for result, wanted in zip(results, expected, strict=True):
        found = result.detections
        np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)
        assert np.diag(pairwise_iou(found.boxes_xyxy, wanted.boxes_xyxy)).min(initial=1.0) >= 0.99
        assert result.times.host_to_device_ns is not None and result.times.around_on_device_ns > 0
