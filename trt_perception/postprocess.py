"""A network's raw outputs become detections in the pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.heads import Head
from trt_perception.nms import non_maximum_suppression
from trt_perception.preprocess import NetworkToImage
from trt_perception.types import AnyArray, Detections, Thresholds

# As in Ultralytics' non_max_suppression: a flood of candidates must not stall a frame.
MAX_CANDIDATES = 30_000


def postprocess(
    outputs: Sequence[AnyArray], head: Head, class_count: int, thresholds: Thresholds, way_back: NetworkToImage
) -> Detections:
    """Decodes, suppresses and maps back; best score first. Raises OutputError when the outputs do not fit."""
    candidates = head.decode(outputs, thresholds.score, class_count)
    boxes, scores, class_ids = candidates.boxes_xyxy, candidates.scores, candidates.class_ids
    if scores.size > MAX_CANDIDATES:
        best = np.argpartition(-scores, MAX_CANDIDATES)[:MAX_CANDIDATES]
        boxes, scores, class_ids = boxes[best], scores[best], class_ids[best]
    if head.needs_nms:
        kept = non_maximum_suppression(boxes, scores, class_ids, thresholds.iou, thresholds.max_detections)
    else:
        kept = np.argsort(-scores, kind="stable")[: thresholds.max_detections]
    return Detections(
        way_back.map_boxes(boxes[kept]),
        np.ascontiguousarray(scores[kept]),
        class_ids[kept].astype(np.int64, copy=False),
    )
