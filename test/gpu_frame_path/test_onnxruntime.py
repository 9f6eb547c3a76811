"""ONNX Runtime's short way on a real GPU."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import pytest

from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.detector import Detector
from trt_perception.encodings import camera_frame
from trt_perception.evaluation import pairwise_iou
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Detections

onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
    pytest.skip("this onnxruntime was built without CUDA", allow_module_level=True)
SURE = 0.5


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """CUDA's libraries of torch's wheels, where onnxruntime itself lies elsewhere and does not find them."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")


def detect_all(scenes: list[Any]) -> list[Detections]:
    with Detector.open("digits", "onnxruntime:cuda") as detector:
        return [detector.detect(scene).detections for scene in scenes]


def same(found: Detections, wanted: Detections) -> None:
    np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)
    assert np.diag(pairwise_iou(found.boxes_xyxy, wanted.boxes_xyxy)).min(initial=1.0) >= 0.99


def test_the_demo_model_finds_what_the_plain_way_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [scene.image_bgr for scene in heldout_scenes(20, 640, 480, 5)]
    short = detect_all(scenes)
    monkeypatch.setattr(OnnxRuntimeBackend, "frame_path", lambda backend, plan: None)
    plain = detect_all(scenes)
    assert sum(map(len, plain)) > 50
    for found, wanted in zip(short, plain, strict=True):
        same(found, wanted)


def test_frames_of_other_encodings_and_sizes() -> None:
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (200, 300), np.uint8)
    scene = next(iter(heldout_scenes(1, 640, 480, 5))).image_bgr
    with Detector.open("digits", "onnxruntime:cuda") as detector, Detector.open("digits", "onnxruntime:cpu") as judge:
        frames = [
            camera_frame("mono8", 300, 200, 300, grey.reshape(-1)),
            camera_frame("bgr8", 640, 480, 1920, scene.reshape(-1)),
            camera_frame("nv12", 640, 480, 640, rng.integers(0, 256, 640 * 720, np.uint8)),
        ]
        for frame in frames * 2:
            found, wanted = detector.detect(frame).detections, judge.detect(frame).detections
            for one, other in ((found, wanted), (wanted, found)):
                sure = one.scores > SURE
                overlap = pairwise_iou(one.boxes_xyxy[sure], other.boxes_xyxy).max(axis=1, initial=0.0)
                assert (overlap > 0.95).all()
