"""The short way of torch against the plain one, on the processor: the same operators that a GPU runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from test.frames import LETTERBOX, SIZES, SPECS, assert_same_input, random_frame
from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.backends.frame_sampling import SOURCE_LAYOUTS
from trt_perception.backends.torch_candidates import ROOM
from trt_perception.backends.torch_frame_path import TorchFramePath
from trt_perception.backends.torch_launcher import HostLauncher
from trt_perception.backends.torchscript_backend import TorchScriptBackend
from trt_perception.class_choice import ClassChoice
from trt_perception.detector import Detector
from trt_perception.encodings import ENCODINGS, decode_frame
from trt_perception.errors import BackendError
from trt_perception.evaluation import pairwise_iou
from trt_perception.heads import HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Thresholds

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

CLASSES = 3
CHOICE = ClassChoice(Thresholds(score=0.5), ("a", "b", "c"))


def tensor_of(frame: CameraFrame, spec: InputSpec) -> NDArray[np.float32]:
    """What the network is given on the short way: the network here is a copy."""
    plan = FramePlan(spec, "detr", False, 0)
    path = TorchFramePath(torch, HostLauncher(torch.device("cpu")), lambda x: [x.clone()], plan, torch.float32)
    (found,) = path.run([frame], CHOICE).found
    assert not isinstance(found, Survivors)
    return found[0].copy()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SPECS)
def test_the_input_is_the_preprocessors(name: str, size: tuple[int, int]) -> None:
    frame = random_frame("bgr8", *size)
    expected, _ = Preprocessor(SPECS[name])(decode_frame(frame))
    assert_same_input(tensor_of(frame, SPECS[name]), expected, SPECS[name])


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("encoding", SOURCE_LAYOUTS)
def test_every_encoding_with_and_without_padding(encoding: str, color: Any) -> None:
    spec = replace(LETTERBOX, color_order=color)
    for padding in (0, 6):
        frame = random_frame(encoding, 330, 190, 3, padding)
        expected, _ = Preprocessor(spec)(decode_frame(frame))
        np.testing.assert_array_equal(tensor_of(frame, spec), expected)


def test_the_packed_encodings_are_among_them() -> None:
    assert {"bgr8", "rgb8", "bgra8", "rgba8", "mono8"} <= TorchFramePath.encodings <= set(ENCODINGS)


# --- choosing candidates ---------------------------------------------------------------------------------------


def outputs_of(head: str, cells: int, batch: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Random boxes of 10 to 60 pixels with scores over the whole range, in the head's layout."""
    rng = np.random.default_rng(seed)
    boxes = np.concatenate((rng.uniform(0, 160, (batch, cells, 2)), rng.uniform(10, 60, (batch, cells, 2))), axis=2)
    scores = rng.uniform(0, 1, (batch, cells, CLASSES)) ** 3
    if head == "yolov8":
        return np.concatenate((boxes, scores), axis=2).transpose(0, 2, 1).astype(np.float32).copy()
    objectness = rng.uniform(0.5, 1, (batch, cells, 1))
    return np.concatenate((boxes, objectness, scores), axis=2).astype(np.float32)


def path_over(head: str, outputs: NDArray[np.float32]) -> TorchFramePath:
    """A path over a network that gives these outputs, of which it takes as many as it is given pictures."""
    given = torch.from_numpy(outputs)
    plan = FramePlan(LETTERBOX, head, True, CLASSES)
    network = lambda x: [given[: x.shape[0]].clone()]  # noqa: E731
    return TorchFramePath(torch, HostLauncher(torch.device("cpu")), network, plan, torch.float32)


CHOICES = {
    "one threshold": Thresholds(score=0.6),
    "nothing": Thresholds(score=1.0),
    "of each class": Thresholds(score=0.7, per_class=(("b", 0.3), ("c", 0.9))),
    "some classes": Thresholds(score=0.4, classes=("a", "c")),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("head", ["yolov8", "yolov5"])
def test_the_same_candidates_as_the_head_in_the_same_order(head: str, name: str) -> None:
    outputs = outputs_of(head, 500)
    choice = ClassChoice(CHOICES[name], ("a", "b", "c"))
    (found,) = path_over(head, outputs).run([random_frame("bgr8", 64, 48)], choice).found
    assert isinstance(found, Survivors) and not found.suppressed
    expected = head_for(head).decode([outputs], choice.lowest_score, HeadContext(160, 128, CLASSES))
    mask = choice.kept(expected.scores, expected.class_ids)
    kept = slice(None) if mask is None else mask
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy[kept])
    np.testing.assert_array_equal(found.scores, expected.scores[kept])
    np.testing.assert_array_equal(found.class_ids, expected.class_ids[kept])
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32 and found.class_ids.dtype == np.int64


def test_other_thresholds_count_from_the_next_frame_on() -> None:
    path, frame = path_over("yolov8", outputs_of("yolov8", 500)), random_frame("bgr8", 64, 48)
    counts = []
    for score in (0.9, 0.1, 0.9):
        (found,) = path.run([frame], ClassChoice(Thresholds(score=score), ("a", "b", "c"))).found
        assert isinstance(found, Survivors)
        counts.append(len(found.scores))
    assert counts[0] == counts[2] < counts[1]


def test_a_flood_comes_down_as_it_is() -> None:
    outputs = outputs_of("yolov8", ROOM + 200)
    choice = ClassChoice(Thresholds(score=0.0), ("a", "b", "c"))
    (found,) = path_over("yolov8", outputs).run([random_frame("bgr8", 64, 48)], choice).found
    assert not isinstance(found, Survivors)
    np.testing.assert_array_equal(found[0], outputs)


@pytest.mark.parametrize("place", [(0, 1, 7), (0, 5, 7)], ids=["box", "score"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_comes_down_for_the_head_to_refuse(place: tuple[int, ...], value: float) -> None:
    outputs = outputs_of("yolov8", 500)
    outputs[0, 4:, 7] = 0.99
    outputs[place] = value
    (found,) = path_over("yolov8", outputs).run([random_frame("bgr8", 64, 48)], CHOICE).found
    assert not isinstance(found, Survivors)


@pytest.mark.parametrize("shape", [(1, 9, 50), (1, 7), (1, 4, 50)])
def test_outputs_that_are_not_the_heads_come_down_for_the_head_to_refuse(shape: tuple[int, ...]) -> None:
    (found,) = path_over("yolov8", np.zeros(shape, np.float32)).run([random_frame("bgr8", 64, 48)], CHOICE).found
    assert not isinstance(found, Survivors) and found[0].shape == shape


# --- several frames --------------------------------------------------------------------------------------------


class Averages(torch.nn.Module):
    """Boxes and scores that depend on the picture: (batch, 4 + classes, cells of 16x16)."""

    def forward(self, pictures: Any) -> Any:
        means = torch.nn.functional.avg_pool2d(pictures, 16).flatten(2)
        return torch.cat((means[:, :1] * 150, means * 100, means), dim=1)


def scripted(pictures: Sequence[Any]) -> list[Any]:
    return [Averages()(pictures)]


def detections(path: TorchFramePath, frames: Sequence[CameraFrame]) -> list[NDArray[np.float32]]:
    rows = []
    for found in path.run(frames, CHOICE).found:
        assert isinstance(found, Survivors)
        rows.append(np.column_stack((found.boxes_xyxy, found.scores, found.class_ids)).astype(np.float32))
    return rows


def test_frames_of_different_sizes_and_encodings_in_one_batch_and_one_by_one() -> None:
    plan = FramePlan(LETTERBOX, "yolov8", True, CLASSES)
    path = TorchFramePath(torch, HostLauncher(torch.device("cpu")), scripted, plan, torch.float32)
    assert path.max_batch > 3
    frames = [
        random_frame("bgr8", 64, 48, 1),
        random_frame("nv12", 320, 180, 2),
        random_frame("mono8", 90, 302, 3),
    ]
    one_by_one = [detections(path, [frame])[0] for frame in frames]
    # Twice, and in another order in between: borders and tables must follow.
    for order in ((0, 1, 2), (2, 0, 1), (0, 1, 2)):
        together = detections(path, [frames[i] for i in order])
        for place, index in enumerate(order):
            np.testing.assert_allclose(together[place], one_by_one[index], atol=1e-5)
    for frame, rows in zip(frames, one_by_one, strict=True):
        picture = decode_frame(frame)
        tensor, way_back = Preprocessor(LETTERBOX)(picture)
        raw = scripted(torch.from_numpy(tensor))[0].numpy()
        context = HeadContext(160, 128, CLASSES)
        plain = postprocess([raw], head_for("yolov8"), context, CHOICE, way_back)
        assert len(plain) and len(rows) >= len(plain)


def test_more_geometries_than_stay_prepared() -> None:
    plan = FramePlan(LETTERBOX, "yolov8", True, CLASSES)
    path = TorchFramePath(torch, HostLauncher(torch.device("cpu")), scripted, plan, torch.float32)
    frames = [random_frame("bgr8", 40 + 2 * i, 50, i) for i in range(12)]
    first = [detections(path, [frame])[0] for frame in frames]
    for frame, before in zip(frames, first, strict=True):
        np.testing.assert_array_equal(detections(path, [frame])[0], before)


def test_a_network_for_one_frame_takes_one() -> None:
    outputs = outputs_of("yolov8", 100)
    path = path_over("yolov8", outputs)
    assert path.max_batch == 1
    frame = random_frame("bgr8", 64, 48)
    with pytest.raises(BackendError, match="got 2 frames; this network takes 1 to 1"):
        path.run([frame, frame], CHOICE)


def test_an_error_of_the_network_is_the_backends_and_the_next_frame_works() -> None:
    plan = FramePlan(LETTERBOX, "yolov8", True, CLASSES)
    broken: list[bool] = []

    def network(pictures: Any) -> list[Any]:
        if broken:
            raise RuntimeError("out of luck\nand more")
        return scripted(pictures)

    path = TorchFramePath(torch, HostLauncher(torch.device("cpu")), network, plan, torch.float32)
    frame = random_frame("bgr8", 64, 48)
    before = detections(path, [frame])[0]
    broken.append(True)
    with pytest.raises(BackendError, match=r"failed on 1 frame\(s\): out of luck$"):
        path.run([frame], CHOICE)
    broken.clear()
    np.testing.assert_array_equal(detections(path, [frame])[0], before)
    path.close()
    with pytest.raises(BackendError, match="got 1 frames"):
        path.run([frame], CHOICE)


def test_the_demo_model_finds_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [scene.image_bgr for scene in heldout_scenes(8, 640, 480, 5)]
    with Detector.open("digits", "torchscript:cpu") as detector:
        expected = [detector.detect(scene).detections for scene in scenes]

    def on_the_processor(backend: TorchScriptBackend, plan: FramePlan) -> TorchFramePath:
        launcher = HostLauncher(torch.device("cpu"))
        return TorchFramePath(torch, launcher, backend._outputs, plan, torch.float32)

    monkeypatch.setattr(TorchScriptBackend, "frame_path", on_the_processor)
    with Detector.open("digits", "torchscript:cpu") as detector:
        results = [detector.detect(scene) for scene in scenes]
    assert sum(map(len, expected)) > 20
    for result, wanted in zip(results, expected, strict=True):
        found = result.detections
        np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)
        assert np.diag(pairwise_iou(found.boxes_xyxy, wanted.boxes_xyxy)).min(initial=1.0) >= 0.99
        times = result.times
        assert times.host_to_device_ns is not None and times.device_to_host_ns is not None
        assert 0 < times.around_on_device_ns <= times.preprocess_ns + times.postprocess_ns
