"""Suppression against a slow greedy oracle and against OpenCV's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.nms import non_maximum_suppression
from trt_perception.types import Float32Array, Int64Array


def boxes_of(*boxes: tuple[float, float, float, float]) -> Float32Array:
    return np.array(boxes, np.float32).reshape(-1, 4)


def run(boxes: Float32Array, scores: Any, classes: Any, iou: float = 0.5, most: int = 300) -> list[int]:
    kept = non_maximum_suppression(boxes, np.asarray(scores, np.float32), np.asarray(classes, np.int64), iou, most)
    assert kept.dtype == np.int64
    return [int(i) for i in kept]


def oracle(boxes: Float32Array, scores: Float32Array, classes: Int64Array, iou: float, most: int) -> list[int]:
    """One box at a time, in whole numbers where the boxes are whole: intersection > iou x union."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    for i in order:
        if len(kept) == most:
            break
        if all(classes[i] != classes[j] or not overlap(boxes[i], boxes[j], iou) for j in kept):
            kept.append(i)
    return kept


def overlap(a: Float32Array, b: Float32Array, iou: float) -> bool:
    ax0, ay0, ax1, ay1 = (float(v) for v in a)
    bx0, by0, bx1, by1 = (float(v) for v in b)
    common = max(min(ax1, bx1) - max(ax0, bx0), 0) * max(min(ay1, by1) - max(ay0, by0), 0)
    return common > iou * ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - common)


def random_boxes(count: int, seed: int, classes: int = 3) -> tuple[Float32Array, Float32Array, Int64Array]:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(1, 40, (count, 2))], axis=1).astype(np.float32)
    return boxes, random.random(count, np.float32), random.integers(0, classes, count, np.int64)


def test_nothing() -> None:
    assert run(boxes_of(), [], []) == []


def test_the_best_stays_and_comes_first() -> None:
    boxes = boxes_of((0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60))
    assert run(boxes, [0.5, 0.9, 0.7], [0, 0, 0]) == [1, 2]


def test_other_classes_are_left_alone() -> None:
    assert run(boxes_of((0, 0, 10, 10), (0, 0, 10, 10)), [0.5, 0.9], [0, 1]) == [1, 0]


def test_equal_scores_in_the_order_in_which_they_came() -> None:
    boxes = boxes_of((0, 0, 10, 10), (0, 0, 10, 10), (50, 0, 60, 10), (20, 0, 30, 10))
    assert run(boxes, [0.5] * 4, [0] * 4) == [0, 2, 3]


def test_a_box_suppressed_does_not_suppress() -> None:
    # Each overlaps its neighbour by a third: the second goes, and the third was touched by the second alone.
    boxes = boxes_of((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10))
    assert run(boxes, [0.9, 0.8, 0.7], [0, 0, 0], iou=0.3) == [0, 2]


@pytest.mark.parametrize(("iou", "kept"), [(0.49, [0]), (0.5, [0, 1]), (0.51, [0, 1])])
def test_overlap_of_exactly_the_threshold_stays(iou: float, kept: list[int]) -> None:
    boxes = boxes_of((0, 0, 10, 10), (0, 0, 10, 5))  # IoU 50 / 100
    assert run(boxes, [0.9, 0.8], [0, 0], iou) == kept


def test_threshold_zero_lets_only_boxes_apart_stay() -> None:
    boxes = boxes_of((0, 0, 10, 10), (10, 0, 20, 10), (9, 0, 19, 10))
    assert run(boxes, [0.9, 0.8, 0.7], [0, 0, 0], iou=0.0) == [0, 1]


def test_threshold_one_lets_all_stay() -> None:
    boxes = boxes_of((0, 0, 10, 10), (0, 0, 10, 10))
    assert run(boxes, [0.9, 0.8], [0, 0], iou=1.0) == [0, 1]


def test_boxes_without_area_neither_go_nor_suppress() -> None:
    boxes = boxes_of((5, 5, 5, 5), (5, 5, 5, 5), (0, 0, 10, 10))
    assert run(boxes, [0.9, 0.8, 0.7], [0, 0, 0]) == [0, 1, 2]


@pytest.mark.parametrize("most", [1, 3, 10])
def test_no_more_than_asked_for(most: int) -> None:
    boxes, scores, classes = random_boxes(200, 1)
    everything = run(boxes, scores, classes)
    assert run(boxes, scores, classes, most=most) == everything[:most]


@pytest.mark.parametrize("seed", range(5))
def test_as_opencv_does_for_each_class(seed: int) -> None:
    boxes, scores, classes = random_boxes(400, seed)
    expected: list[int] = []
    for class_id in range(3):
        of_class = np.flatnonzero(classes == class_id)
        rectangles = np.concatenate([boxes[of_class, :2], boxes[of_class, 2:] - boxes[of_class, :2]], axis=1)
        kept: Any = cv2.dnn.NMSBoxes(rectangles.tolist(), scores[of_class].tolist(), 0.0, 0.45)
        expected += [int(of_class[i]) for i in np.asarray(kept).ravel()]
    assert sorted(run(boxes, scores, classes, 0.45, 1000)) == sorted(expected)


def test_thousands() -> None:
    boxes, scores, classes = random_boxes(3000, 7, classes=4)
    assert run(boxes, scores, classes, 0.45, 3000) == oracle(boxes, scores, classes, 0.45, 3000)


whole = st.integers(0, 12)
candidate = st.tuples(whole, whole, whole, whole, st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.integers(0, 2))


@given(
    st.lists(candidate, max_size=25),
    # Thresholds that float32 holds exactly, so that whole boxes meet them exactly.
    st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]),
    st.integers(1, 30),
)
@settings(max_examples=400, deadline=None)
def test_as_the_oracle_does(candidates: list[tuple[int, int, int, int, float, int]], iou: float, most: int) -> None:
    boxes = boxes_of(*((x, y, x + w, y + h) for x, y, w, h, _, _ in candidates))
    scores = np.array([c[4] for c in candidates], np.float32)
    classes = np.array([c[5] for c in candidates], np.int64)
    assert run(boxes, scores, classes, iou, most) == oracle(boxes, scores, classes, iou, most)
