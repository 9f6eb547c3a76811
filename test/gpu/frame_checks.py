"""What is asked of every backend's short way on a GPU, with the plain way of the same backend beside it."""

from __future__ import annotations

import numpy as np

from test.camera_encodings import encode
from test.gpu.memory import BLOCK, left_behind
from trt_perception.detector import Detector
from trt_perception.encodings import camera_frame
from trt_perception.evaluation import pairwise_iou
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import Detections, Thresholds

_RNG = np.random.default_rng(21)
_NAMES = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}


def frame(encoding: str = "bgr8", width: int = 160, height: int = 120, padding: int = 0) -> CameraFrame:
    """Noise, as a camera would send it."""
    bgr = _RNG.integers(0, 256, (height, width, 3), np.uint8)
    sent = encode(bgr, _NAMES.get(encoding, encoding), padding)
    return camera_frame(encoding, width, height, sent.step, sent.data)


# Of `frame()`, all but the last find something with the small network's boxes.
THRESHOLDS = (
    Thresholds(score=0.1, iou=0.2),
    Thresholds(score=0.15, iou=0.8, class_agnostic=True),
    Thresholds(score=0.05, max_detections=3),
    Thresholds(score=0.9, per_class=(("4", 0.1), ("6", 0.05))),
    Thresholds(score=0.05, classes=("4", "6")),
    Thresholds(score=0.999),
)


def on_the_device(detector: Detector) -> Detector:
    """The detector, whose frames go the short way; where they do not, there is nothing to compare."""
    assert detector.takes(frame("bgr8", 4, 4)), detector.info.notes
    return detector


def require_boxes(expected: Detections) -> Detections:
    """What is to be found: boxes with an area, of which some suppressed others."""
    sides = expected.boxes_xyxy[:, 2:] - expected.boxes_xyxy[:, :2]
    assert (sides.prod(axis=1) > 1).sum() > 3 and len(expected) < 200
    return expected


def assert_alike(found: Detections, expected: Detections) -> None:
    """The same but for rounding: scores within 1e-3, an IoU of 0.99."""
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    # Of scores that are all but equal, one may come first here and the other there; boxes without an area overlap none.
    gaps_px = np.abs(found.boxes_xyxy[:, None] - expected.boxes_xyxy).max(axis=2)
    same = (pairwise_iou(found.boxes_xyxy, expected.boxes_xyxy) >= 0.99) | (gaps_px <= 0.01)
    same &= found.class_ids[:, None] == expected.class_ids
    assert same.any(axis=1).all() and same.any(axis=0).all()


def assert_stage_times(fast: Detector, plain: Detector, *, least: float) -> None:
    """Every stage takes its time, and inference about what it takes on the plain way; least: over that at least."""
    given = frame("bgr8", 640, 480)
    times = [detector.detect(given).times for detector in (fast, plain) for _ in range(30)]
    for one in times[:30]:
        assert len(one.durations_ms()) == 5 and one.device_to_host_ns is not None
        assert 0 < one.around_on_device_ns < one.preprocess_ns + one.postprocess_ns
        assert one.host_to_device_ns is not None and one.host_to_device_ns > 0
    # Ours by the clock that kernels read, the other by events or the host's clock.
    ours, judges = (np.median([one.inference_ns for one in part]) for part in (times[5:30], times[35:]))
    assert max(0.0, least * judges - 10_000) < ours < 2.5 * judges + 10_000


def assert_flat_memory(detector: Detector, frames: int) -> None:
    """So many frames of nine kinds take no more device memory than the first hundred."""
    sizes = [(640, 480), (1280, 720), (320, 240)]
    given = [frame(encoding, *size) for size in sizes for encoding in ("bgr8", "nv12", "yuyv")]

    def run(count: int) -> None:
        for index in range(count):
            detector.detect(given[index % len(given)])

    run(100)
    assert left_behind(lambda: run(frames)) <= BLOCK
