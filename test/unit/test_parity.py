"""The same raw outputs give the same boxes as what people compare with.

Each reference here is written from its description, one step at a time: Ultralytics' suppression, which moves each
class elsewhere, and its way back from the letterbox (the letterbox itself is in test_preprocess.py); torchvision's nms;
and OpenCV's NMSBoxes itself.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trt_perception.class_choice import ClassChoice
from trt_perception.heads import HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.nms import non_maximum_suppression
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.types import Float32Array, Image, Int64Array, Thresholds

WIDTH, HEIGHT, CLASSES, ANCHORS = 640, 384, 6, 5040
PICTURES = [(640, 384), (1920, 1080), (481, 333), (300, 900), (7, 5), (1279, 719)]
# Ultralytics adds this many pixels for each class, so that boxes of two classes never meet.
CLASS_OFFSET = 7680


def reference_nms(boxes: Any, scores: Any, iou_threshold: float) -> list[int]:
    """torchvision.ops.nms: repeatedly removes lower scoring boxes with an IoU greater than the threshold."""
    waiting = sorted(range(len(scores)), key=lambda i: -scores[i])  # stable
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    removed = np.zeros(len(scores), bool)
    kept = []
    for i in waiting:
        if removed[i]:
            continue
        kept.append(i)
        sides = np.minimum(corners[i, 2:], corners[:, 2:]) - np.maximum(corners[i, :2], corners[:, :2])
        common = np.prod(np.maximum(sides, 0), axis=1)
        with np.errstate(invalid="ignore"):
            removed |= common / (areas[i] + areas - common) > iou_threshold
    return kept


def reference_detections(output: Float32Array, width: int, height: int, thresholds: Thresholds) -> list[list[float]]:
    """Rows of left, top, right, bottom, score, class: non_max_suppression, then scale_boxes and clip_boxes."""
    boxes, scores, classes = [], [], []
    for column in output[0].T.tolist():
        x, y, w, h, *of_classes = column
        score = max(of_classes)
        if score > thresholds.score:
            boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            scores.append(score)
            classes.append(of_classes.index(score))
    apart = 0 if thresholds.class_agnostic else CLASS_OFFSET
    moved = [[v + c * apart for v in box] for box, c in zip(boxes, classes, strict=True)]
    kept = reference_nms(moved, scores, thresholds.iou)[: thresholds.max_detections]
    gain = min(HEIGHT / height, WIDTH / width)
    pad_x, pad_y = round((WIDTH - round(width * gain)) / 2 - 0.1), round((HEIGHT - round(height * gain)) / 2 - 0.1)
    rows = []
    for i in kept:
        left, top, right, bottom = boxes[i]
        xs = [min(max((v - pad_x) / gain, 0), width) for v in (left, right)]
        ys = [min(max((v - pad_y) / gain, 0), height) for v in (top, bottom)]
        rows.append([xs[0], ys[0], xs[1], ys[1], scores[i], classes[i]])
    return rows


def raw_output(seed: int, objects: int, *, steps: int = 0) -> Float32Array:
    """Candidates crowded around some objects, many over the border; steps: so many different scores, for ties."""
    random = np.random.default_rng(seed)
    output = np.zeros((1, 4 + CLASSES, ANCHORS), np.float32)
    if objects == 0:
        output[0, 4:] = random.uniform(0, 0.2, (CLASSES, ANCHORS))
        return output
    around = random.integers(0, objects, ANCHORS)
    centers = random.uniform((-20, -20), (WIDTH + 20, HEIGHT + 20), (objects, 2))[around]
    sizes = random.uniform(10, 200, (objects, 2))[around]
    output[0, :2] = (centers + random.normal(0, 8, (ANCHORS, 2))).T
    output[0, 2:4] = (sizes * random.uniform(0.8, 1.25, (ANCHORS, 2))).T
    scores = random.random((CLASSES, ANCHORS))
    output[0, 4:] = np.ceil(scores * steps) / steps if steps else scores
    return output


def run(output: Float32Array, width: int, height: int, thresholds: Thresholds) -> NDArray[np.float64]:
    _, way_back = Preprocessor(InputSpec(WIDTH, HEIGHT))(Image(np.zeros((height, width, 3), np.uint8), "bgr"))
    choice = ClassChoice(thresholds, [str(i) for i in range(CLASSES)])
    found = postprocess([output], head_for("yolov8"), HeadContext(WIDTH, HEIGHT, CLASSES), choice, way_back)
    return np.column_stack((found.boxes_xyxy, found.scores, found.class_ids)).astype(np.float64)


@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize(
    ("objects", "steps"), [(0, 0), (1, 0), (30, 0), (30, 7), (400, 0)], ids=["none", "one", "some", "ties", "thousands"]
)
def test_the_same_boxes_from_the_same_outputs(
    size: tuple[int, int], class_agnostic: bool, objects: int, steps: int
) -> None:
    output = raw_output(objects + steps, objects, steps=steps)
    thresholds = Thresholds(0.25, 0.45, 5000, class_agnostic)
    expected = reference_detections(output, *size, thresholds)
    found = run(output, *size, thresholds)
    assert len(found) == len(expected)
    assert (len(expected) > objects / 4) == (objects > 0)
    # The same rows in the same order, boxes within a thousandth of a pixel.
    np.testing.assert_allclose(found, np.array(expected).reshape(-1, 6), atol=1e-3, rtol=0)


@pytest.mark.parametrize("most", [1, 300])
def test_the_best_of_them(most: int) -> None:
    output = raw_output(5, 300)
    thresholds = Thresholds(0.25, 0.7, most)
    expected = reference_detections(output, 1920, 1080, thresholds)
    assert len(expected) == most
    np.testing.assert_allclose(run(output, 1920, 1080, thresholds), expected, atol=1e-3, rtol=0)


def crowd(seed: int, steps: int) -> tuple[Float32Array, Float32Array, Int64Array]:
    output = raw_output(seed, 60, steps=steps)[0]
    boxes = np.concatenate((output[:2] - output[2:4] / 2, output[:2] + output[2:4] / 2)).T
    return np.ascontiguousarray(boxes), output[4:].max(axis=0), output[4:].argmax(axis=0)


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("iou", [0.2, 0.45, 0.7])
def test_class_agnostic_as_opencv_and_torchvision(iou: float, steps: int) -> None:
    boxes, scores, class_ids = crowd(9, steps)
    kept = non_maximum_suppression(boxes, scores, class_ids, iou, 10_000, class_agnostic=True).tolist()
    rectangles = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1).astype(np.float64)
    opencv = [int(i) for i in np.asarray(cv2.dnn.NMSBoxes(rectangles.tolist(), scores.tolist(), 0.0, iou)).ravel()]
    assert kept == opencv
    assert kept == reference_nms(boxes, scores, iou)


def test_each_class_by_itself_as_torchvisions_batched_nms() -> None:
    boxes, scores, class_ids = crowd(10, 9)
    expected: list[int] = []
    for class_id in range(CLASSES):
        own = np.flatnonzero(class_ids == class_id)
        expected += [int(own[i]) for i in reference_nms(boxes[own], scores[own], 0.5)]
    kept = non_maximum_suppression(boxes, scores, class_ids, 0.5, 10_000).tolist()
    assert sorted(kept) == sorted(expected)
    assert np.all(np.diff(scores[kept]) <= 0)
