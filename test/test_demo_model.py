"""The shipped demo model finds held-out digits, and its artifacts are one and the same network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_perception.evaluation import mean_average_precision
from trt_perception.heads import head_for
from trt_perception.model_file import ModelFile
from trt_perception.models import load_model
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.scenes import MovingScene, Scene, heldout_scenes
from trt_perception.types import Detections, Image, Thresholds

Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SEED = 7  # another than tools/digits/score.py has, so that no choice made while training saw these scenes
CURVE = Thresholds(score=0.01, iou=0.6, max_detections=100)


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model("digits")


@pytest.fixture(scope="module")
def infer(model: ModelFile) -> Infer:
    """Runs the ONNX artifact: input (B, 3, 320, 320) to raw output (B, 14, 2100)."""
    onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(str(model.artifact("onnx").path), providers=["CPUExecutionProvider"])

    def run(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = session.run(["output0"], {"images": tensor})[0]
        return output

    return run


def detect(model: ModelFile, infer: Infer, scenes: list[Scene], thresholds: Thresholds) -> list[Detections]:
    preprocessor, head = Preprocessor(model.input), head_for(model.head)
    found = []
    for scene in scenes:
        tensor, way_back = preprocessor(Image(scene.image_bgr, "bgr"))
        found.append(postprocess([infer(tensor)], head, len(model.labels), thresholds, way_back))
    return found


@pytest.mark.parametrize(("width", "height"), [(320, 320), (640, 480), (480, 640)])
def test_finds_heldout_digits(model: ModelFile, infer: Infer, width: int, height: int) -> None:
    scenes = list(heldout_scenes(100, width, height, SEED))
    result = mean_average_precision(detect(model, infer, scenes, CURVE), scenes)
    assert result.truth_count > 300
    assert set(result.ap50_by_class) == set(range(10))
    assert result.map50 >= 0.90


def test_finds_the_digits_of_the_moving_scene_at_its_own_thresholds(model: ModelFile, infer: Infer) -> None:
    scenes = [MovingScene(640, 480, seed=seed).frame(index) for seed in range(8) for index in (0, 50, 100)]
    result = mean_average_precision(detect(model, infer, scenes, model.thresholds), scenes)
    assert result.map50 >= 0.85


def test_artifacts_are_what_the_model_file_says(model: ModelFile) -> None:
    assert model.labels == tuple("0123456789")
    for kind in ("onnx", "torchscript"):
        model.artifact(kind).verify()
        bare = load_model(model.artifact(kind).path)
        assert (bare.labels, bare.input.width, bare.input.height) == (model.labels, 320, 320)


def test_a_batch_gives_what_single_images_give(infer: Infer) -> None:
    images = np.random.default_rng(0).random((3, 3, 320, 320), np.float32)
    batched = infer(images)
    assert batched.shape == (3, 14, 2100)
    singles = np.concatenate([infer(image[None]) for image in images])
    np.testing.assert_allclose(batched, singles, atol=1e-3)


def test_onnx_and_torchscript_agree(model: ModelFile, infer: Infer) -> None:
    torch: Any = pytest.importorskip("torch", reason="torch is not installed")
    script = torch.jit.load(str(model.artifact("torchscript").path), map_location="cpu").eval()
    preprocessor = Preprocessor(model.input)
    for scene in heldout_scenes(5, 320, 320, SEED):
        tensor, _ = preprocessor(Image(scene.image_bgr, "bgr"))
        with torch.no_grad():
            by_torch = script(torch.from_numpy(tensor)).numpy()
        assert by_torch[0, 4:].max() > 0.2  # there is something to agree on
        np.testing.assert_allclose(infer(tensor), by_torch, atol=1e-3)
