"""What is done in few passes gives what the plain way gives: boxes of IoU 0.99 and more, scores within a thousandth."""

from __future__ import annotations

import numpy as np
import pytest

from test.plain_way import iou, plain_detections, plain_tensor
from trt_perception.class_choice import ClassChoice
from trt_perception.heads import HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.types import Detections, Float32Array, Image, Thresholds

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLASSES, ANCHORS, SIDE = 80, 8400, 640
LABELS = [str(i) for i in range(CLASSES)]


def picture(width: int, height: int) -> Image:
    return Image(np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), np.uint8), "bgr")


# Among them sizes of which every third or fifth row is used, in one direction or in both.
@pytest.mark.parametrize(
    ("width", "height"),
    [(640, 480), (1280, 720), (1920, 1080), (1080, 1920), (3200, 2400), (3200, 1000), (641, 479), (7, 2000), (3, 1)],
)
@pytest.mark.parametrize("spec", [InputSpec(SIDE, SIDE), InputSpec(320, 192, **IMAGENET)], ids=["unit", "normalised"])  # type: ignore[arg-type]
def test_the_tensor_is_that_of_the_plain_way(spec: InputSpec, width: int, height: int) -> None:
    tensor, way_back = Preprocessor(spec)(picture(width, height))
    expected, plain_way_back = plain_tensor(spec, picture(width, height))
    np.testing.assert_allclose(tensor, expected, atol=2e-6)
    assert way_back == plain_way_back


def crowded(seed: int, objects: int, classes: int) -> Float32Array:
    """Raw outputs with ten candidates around each object, of as many classes; the others are faint."""
    random = np.random.default_rng(seed)
    output = np.zeros((1, 4 + CLASSES, ANCHORS), np.float32)
    output[0, :2] = random.uniform(0, SIDE, (2, ANCHORS))
    output[0, 2:4] = random.uniform(4, 60, (2, ANCHORS))
    output[0, 4:] = random.uniform(0, 0.2, (CLASSES, ANCHORS))
    for center in random.uniform(60, SIDE - 60, (objects, 2)):
        size, class_id = random.uniform(30, 120, 2), random.integers(0, classes)
        anchors = random.choice(ANCHORS, 10, replace=False)
        output[0, :2, anchors] = center + random.uniform(-4, 4, (10, 2))
        output[0, 2:4, anchors] = size * random.uniform(0.8, 1.2, (10, 2))
        output[0, 4 + class_id, anchors] = random.uniform(0.3, 0.95, 10)
    return output


@pytest.mark.parametrize("objects", [0, 1, 20, 100])
@pytest.mark.parametrize("classes", [1, 5, CLASSES])
@pytest.mark.parametrize("most", [300, 7])
def test_detections_are_those_of_the_plain_way(objects: int, classes: int, most: int) -> None:
    output = crowded(objects + classes, objects, classes)
    thresholds = Thresholds(max_detections=most)
    _, way_back = plain_tensor(InputSpec(SIDE, SIDE), picture(1280, 720))
    context = HeadContext(SIDE, SIDE, CLASSES)
    found = postprocess([output], head_for("yolov8"), context, ClassChoice(thresholds, LABELS), way_back)
    assert_same(found, plain_detections(output, thresholds, way_back))
    assert len(found) >= min(objects, 1)


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(found) == len(expected)
    assert found.class_ids.tolist() == expected.class_ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    for box, plain in zip(found.boxes_xyxy.astype(float), expected.boxes_xyxy.astype(float), strict=True):
        # What is clipped away to nothing has no overlap to speak of.
        np.testing.assert_allclose(box, plain, atol=1e-3)
        assert iou(box, plain) >= 0.99 or np.prod(plain[2:] - plain[:2]) < 1
