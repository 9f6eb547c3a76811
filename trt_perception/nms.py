"""Non-maximum suppression, in each class by itself or across all."""

from __future__ import annotations

import numpy as np

from trt_perception.types import Float32Array, Int64Array


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
    (N,). At most max_detections indices come back, so the work is bounded by that number of passes.
    """
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = np.ascontiguousarray(boxes_xyxy[order].T)
    classes = np.zeros(order.size, np.int64) if class_agnostic else class_ids[order]
    areas = (right - left) * (bottom - top)
    alive = np.ones(order.size, bool)
    kept: list[int] = []
    position = 0
    while len(kept) < max_detections and position < order.size:
        kept.append(position)
        rest = slice(position + 1, None)
        width = np.minimum(right[position], right[rest]) - np.maximum(left[position], left[rest])
        height = np.minimum(bottom[position], bottom[rest]) - np.maximum(top[position], top[rest])
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        union = areas[position] + areas[rest] - intersection
        # Multiplied out, so that empty boxes (union 0) need no special case.
        alive[rest] &= ~((intersection > iou_threshold * union) & (classes[rest] == classes[position]))
        following = np.flatnonzero(alive[rest])
        if following.size == 0:
            break
        position += 1 + int(following[0])
    return order[np.asarray(kept, np.int64)]
