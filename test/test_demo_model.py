"""The shipped demo model finds held-out digits, through the detector that everybody uses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import create_backend
from trt_perception.detector import Detector
from trt_perception.evaluation import mean_average_precision
from trt_perception.model_file import ModelFile
from trt_perception.models import load_model
from trt_perception.scenes import MovingScene, Scene, heldout_scenes
from trt_perception.types import Detections, Thresholds

SEED = 7  # another than tools/digits/score.py has, so that no choice made while training saw these scenes
CURVE = Thresholds(score=0.01, iou=0.6, max_detections=100)


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model("digits")


@pytest.fixture(scope="module")
def detector(model: ModelFile) -> Iterator[Detector]:
    with Detector.open(model, "onnxruntime:cpu") as opened:
        yield opened


def detect(detector: Detector, scenes: list[Scene], thresholds: Thresholds) -> list[Detections]:
    detector.thresholds = thresholds
    return [detector.detect(scene.image_bgr).detections for scene in scenes]


@pytest.mark.parametrize(("width", "height"), [(320, 320), (640, 480), (480, 640)])
def test_finds_heldout_digits(detector: Detector, width: int, height: int) -> None:
    scenes = list(heldout_scenes(100, width, height, SEED))
    result = mean_average_precision(detect(detector, scenes, CURVE), scenes)
    assert result.truth_count > 300
    assert set(result.ap50_by_class) == set(range(10))
    assert result.map50 >= 0.90


def test_finds_the_digits_of_the_moving_scene_at_its_own_thresholds(model: ModelFile, detector: Detector) -> None:
    scenes = [MovingScene(640, 480, seed=seed).frame(index) for seed in range(8) for index in (0, 50, 100)]
    result = mean_average_precision(detect(detector, scenes, model.thresholds), scenes)
    assert result.map50 >= 0.85


def test_artifacts_are_what_the_model_file_says(model: ModelFile) -> None:
    assert model.labels == tuple("0123456789")
    for kind in ("onnx", "torchscript"):
        artifact = model.artifact(kind)
        artifact.verify(kind)
        assert artifact.path.stat().st_size <= 3_000_000
        bare = load_model(artifact.path)
        assert (bare.labels, bare.input.width, bare.input.height) == (model.labels, 320, 320)


@pytest.mark.parametrize("backend", ["onnxruntime:cpu", "torchscript:cpu"])
def test_a_batch_gives_what_single_images_give(model: ModelFile, backend: str) -> None:
    if backend.startswith("torchscript"):
        pytest.importorskip("torch", reason="torch is not installed")
    images = np.random.default_rng(0).random((3, 3, 320, 320), np.float32)
    with create_backend(BackendRequest.parse(backend), model) as opened:
        batched = opened.infer(images).arrays[0].copy()
        singles = np.concatenate([opened.infer(image[None]).arrays[0].copy() for image in images])
    assert batched.shape == (3, 14, 2100)
    np.testing.assert_allclose(batched, singles, atol=1e-3)
