"""Non-maximum suppression, in each class by itself or across all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_perception.types import Float32Array, Int64Array

# Candidates that are compared with one another at once: the matrices of so many stay in a processor's cache.
_TOGETHER = 128
# [i, j]: j comes after i.
_AFTER = np.triu(np.ones((_TOGETHER, _TOGETHER), bool), 1)


def non_maximum_suppression(
    boxes_xyxy: Float32Array,
    scores: Float32Array,
    class_ids: Int64Array,
    iou_threshold: float,
    max_detections: int,
    *,
    class_agnostic: bool = False,
) -> Int64Array:
    """Indices of the boxes that stay, best score first.

    Greedy, as Pascal VOC and every YOLO defines it: the best box stays, and boxes of its class that overlap it by
    more than iou_threshold (0..1) go, those of other classes too when class_agnostic; equal scores are taken in the
    order in which they came. Boxes are float32 (N, 4) left, top, right, bottom; scores float32 (N,); class_ids int64
    (N,), 0 or more. At most max_detections indices come back.
    """
    order = (-scores).argsort(kind="stable")
    classes = np.zeros_like(order) if class_agnostic else class_ids[order]
    candidates = _Candidates(boxes_xyxy.T.take(order, axis=1), classes)
    best, waiting = candidates.best_of_each_class(iou_threshold)
    found = [best]
    count = best.size
    for start in range(0, waiting.size, _TOGETHER):
        some = waiting[start : start + _TOGETHER]
        if start:
            some = some[~candidates.overlap(np.concatenate(found[1:]), some, iou_threshold).any(axis=0)]
        found.append(some[_survivors(candidates.overlap(some, some, iou_threshold))])
        count += found[-1].size
        # Those still waiting are no better than these, the best of each class may be worse.
        if count - best.size >= max_detections:
            break
    kept = np.sort(np.concatenate(found)) if waiting.size else best
    return order[kept[:max_detections]]


class _Candidates:
    """Boxes and their classes, best first. Indices are those of this order."""

    def __init__(self, corners: Float32Array, classes: Int64Array) -> None:
        """corners: (4, N) left, top, right, bottom."""
        self._corners = corners
        self._classes = classes
        sides = corners[2:] - corners[:2]
        self._areas: Float32Array = sides[0] * sides[1]

    def best_of_each_class(self, iou_threshold: float) -> tuple[Int64Array, Int64Array]:
        """Indices of the best box of each class, which stay for certain, and of the others that they leave."""
        classes = self._classes
        if not classes.size:
            return classes, classes
        here = np.arange(classes.size)
        best = np.empty(np.maximum.reduce(classes) + 1, np.int64)
        # The first of a class is written last.
        best[classes[::-1]] = here[::-1]
        of_each = best[classes]
        is_best = of_each == here
        best_corners = self._corners.take(of_each, axis=1)
        gone = _overlap(best_corners, self._corners, self._areas[of_each], self._areas, iou_threshold)
        gone |= is_best
        return is_best.nonzero()[0], (~gone).nonzero()[0]

    def overlap(self, first: Int64Array, second: Int64Array, iou_threshold: float) -> NDArray[np.bool_]:
        """bool (first, second): which boxes of one class overlap by more than the threshold."""
        one, other = self._corners.take(first, axis=1), self._corners.take(second, axis=1)
        areas = self._areas[first][:, np.newaxis], self._areas[second]
        result = _overlap(one[:, :, np.newaxis], other[:, np.newaxis], *areas, iou_threshold)
        result &= self._classes[first][:, np.newaxis] == self._classes[second]
        return result


def _overlap(
    one: Float32Array, other: Float32Array, area_one: Float32Array, area_other: Float32Array, iou_threshold: float
) -> NDArray[np.bool_]:
    """Where the boxes overlap by more than the threshold; (4, ...) corners and (...) areas, which broadcast."""
    sides = np.minimum(one[2:], other[2:])
    sides -= np.maximum(one[:2], other[:2])
    np.maximum(sides, 0, out=sides)
    intersection = sides[0] * sides[1]
    union = area_one + area_other
    union -= intersection
    # Multiplied out, so that empty boxes (union 0) need no special case.
    union *= iou_threshold
    result: NDArray[np.bool_] = intersection > union
    return result


def _survivors(overlap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool (N,) from bool (N, N), whose boxes are ordered best first: those that no better survivor suppresses.

    Repeated until nothing changes, which is then what one box after the other gives, in as many rounds as the longest
    chain of boxes that suppress one another has links (Zheng et al., Enhancing Geometric Factors in Model Learning
    and Inference for Object Detection and Instance Segmentation, section III-C).
    """
    overlap &= _AFTER[: len(overlap), : len(overlap)]
    alive: NDArray[np.bool_] = np.logical_not(overlap.any(axis=0))
    while True:
        again: NDArray[np.bool_] = np.logical_not(overlap[alive].any(axis=0))
        if (again == alive).all():
            return alive
        alive = again
