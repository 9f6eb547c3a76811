"""The detector around a backend that offers the short way: same detections, same errors, reasons where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from test.camera_encodings import encode
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import create_backend
from trt_perception.backends.base import Backend
from trt_perception.backends.frame_path import FramePathResult, FramePlan, RawFrameOutputs, Survivors
from trt_perception.class_choice import ClassChoice
from trt_perception.detector import Detector
from trt_perception.encodings import camera_frame, decode_frame, frame_of_image
from trt_perception.errors import ImageError
from trt_perception.heads import HeadContext, head_for
from trt_perception.heldout import heldout_scenes
from trt_perception.models import load_model
from trt_perception.nms import non_maximum_suppression
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.preprocess import Preprocessor
from trt_perception.types import Detections, Image, StageTimes, Thresholds

MODEL = load_model("digits")
SCENE = next(iter(heldout_scenes(1, 640, 480, seed=3))).image_bgr


class PlainPath:
    """The protocol on the processor, from the plain way's own parts; answer: in which form it gives its boxes."""

    encodings = frozenset({"bgr8", "rgb8", "bgra8", "rgba8", "mono8", "nv12"})
    max_batch = 4

    def __init__(self, backend: Backend, answer: str) -> None:
        self._backend = backend
        self._answer = answer
        self.seen: list[str] = []

    def run(self, frames: Sequence[CameraFrame], choice: ClassChoice) -> FramePathResult:
        found = tuple(self._one(frame, choice) for frame in frames)
        return FramePathResult(found, StageTimes(1, 20, 3, 5, 7, 9, around_on_device_ns=2))

    def _one(self, frame: CameraFrame, choice: ClassChoice) -> Survivors | RawFrameOutputs:
        self.seen.append(frame.encoding)
        raw = self._backend.infer(Preprocessor(MODEL.input)(decode_frame(frame))[0])
        if self._answer == "raw":
            return raw.arrays
        context = HeadContext(MODEL.input.width, MODEL.input.height, len(MODEL.labels))
        boxes = head_for("yolov8").decode(raw.arrays, choice.lowest_score, context)
        counts = boxes.scores > choice.least_scores(len(MODEL.labels))[boxes.class_ids]
        where, scores, classes = boxes.boxes_xyxy[counts], boxes.scores[counts], boxes.class_ids[counts]
        if self._answer == "candidates":
            return Survivors(where, scores, classes, suppressed=False)
        limits = choice.thresholds
        kept = non_maximum_suppression(where, scores, classes, limits.iou, limits.max_detections)
        return Survivors(where[kept], scores[kept], classes[kept], suppressed=True)


def detector_with(answer: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Detector, PlainPath]:
    backend = create_backend(BackendRequest.parse("onnxruntime:cpu"), MODEL)
    backend.open()
    path = PlainPath(backend, answer)
    plans: list[FramePlan] = []

    def frame_path(plan: FramePlan) -> PlainPath:
        plans.append(plan)
        return path

    monkeypatch.setattr(backend, "frame_path", frame_path)
    detector = Detector(MODEL, backend)
    assert plans == [FramePlan(MODEL.input, "yolov8", True, len(MODEL.labels))]
    return detector, path


def plain(picture: Any, thresholds: Thresholds | None = None) -> Detections:
    with Detector.open(MODEL, "onnxruntime:cpu", thresholds=thresholds) as detector:
        return detector.detect(picture).detections


def assert_equal(found: Detections, expected: Detections) -> None:
    assert len(expected) > 0
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)


@pytest.mark.parametrize("answer", ["raw", "candidates", "suppressed"])
def test_each_form_of_answer_becomes_the_plain_ways_detections(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, path = detector_with(answer, monkeypatch)
    some_class = MODEL.label(int(plain(SCENE).class_ids[0]))
    with detector:
        for thresholds in (
            Thresholds(),
            Thresholds(score=0.6, max_detections=2),
            Thresholds(score=0.9, per_class=((some_class, 0.3),)),
            Thresholds(classes=(some_class,)),
        ):
            detector.thresholds = thresholds
            assert_equal(detector.detect(SCENE).detections, plain(SCENE, thresholds))
    assert set(path.seen) == {"bgr8"}


def test_frames_go_in_as_they_are_and_others_are_decoded_first(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, path = detector_with("candidates", monkeypatch)
    with detector:
        for encoding, handed_on in (("nv12", "nv12"), ("rgb8", "rgb8"), ("yuyv", "bgr8"), ("bayer_rggb8", "bgr8")):
            sent = encode(SCENE, encoding, padding=8)
            frame = camera_frame(encoding, sent.width, sent.height, sent.step, sent.data)
            assert detector.takes(frame) is (encoding == handed_on)
            path.seen.clear()
            assert_equal(detector.detect(frame).detections, plain(decode_frame(frame)))
            assert path.seen == [handed_on]
        with pytest.raises(ImageError, match="at least one pixel"):
            detector.detect(np.zeros((0, 4, 3), np.uint8))


def test_the_stages_of_the_short_way_add_up_to_what_the_clock_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, _ = detector_with("suppressed", monkeypatch)
    with detector:
        times = detector.detect(SCENE).times
    assert times.busy_ns == 7 + 20 + 9 + 2
    assert times.total_ns == sum(round(value * 1e6) for value in times.durations_ms().values()) > 1_000_000


def test_a_frame_that_the_plain_way_gets_is_decoded_by_the_detector() -> None:
    sent = encode(SCENE, "nv12")
    frame = camera_frame("nv12", sent.width, sent.height, sent.step, sent.data)
    with Detector.open(MODEL, "onnxruntime:cpu") as detector:
        assert not detector.takes(frame) and not detector.info.notes
        assert_equal(detector.detect(frame).detections, plain(decode_frame(frame)))


def test_a_reason_against_the_short_way_goes_into_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = create_backend(BackendRequest.parse("onnxruntime:cpu"), MODEL)
    backend.open()
    monkeypatch.setattr(backend, "frame_path", lambda plan: "the moon is full")
    with Detector(MODEL, backend) as detector:
        assert detector.info.notes[-1] == "pictures are prepared on the processor: the moon is full"
        assert_equal(detector.detect(SCENE).detections, plain(SCENE))


@pytest.mark.parametrize("order", ["bgr", "rgb", "bgra", "rgba", "gray"])
def test_a_picture_becomes_a_frame_without_a_copy_where_its_rows_allow(order: Any) -> None:
    channels = {"bgr": 3, "rgb": 3, "bgra": 4, "rgba": 4, "gray": 1}[order]
    whole = np.random.default_rng(4).integers(0, 256, (9, 14, channels), np.uint8)
    for pixels, copied in ((whole, False), (whole[2:, 3:12], False), (whole[:, ::-1], True), (whole[::-1], True)):
        frame = frame_of_image(Image(pixels, order))
        back = decode_frame(frame)
        assert back.color_order == order and np.shares_memory(back.pixels, whole) is not copied
        np.testing.assert_array_equal(back.pixels, pixels)


def test_least_scores_say_what_the_choice_keeps() -> None:
    labels = ("a", "b", "c", "d")
    scores = np.tile(np.linspace(0, 1, 21, dtype=np.float32), 4)
    class_ids = np.repeat(np.arange(4), 21)
    base = Thresholds(score=0.4)
    for thresholds in (
        base,
        replace(base, per_class=(("b", 0.2), ("d", 0.9))),
        replace(base, classes=("a", "c")),
        replace(base, classes=("b", "c"), per_class=(("b", 0.7), ("d", 0.1))),
    ):
        choice = ClassChoice(thresholds, labels)
        mask = choice.kept(scores, class_ids)
        expected = scores > thresholds.score if mask is None else mask
        np.testing.assert_array_equal(scores > choice.least_scores(4)[class_ids], expected)
