"""A network's raw outputs become detections in the pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.class_choice import ClassChoice
from trt_perception.heads import Candidates, Head, HeadContext
from trt_perception.heads.base import require_finite
from trt_perception.nms import non_maximum_suppression
from trt_perception.placement import NetworkToImage
from trt_perception.types import AnyArray, Detections, Float32Array, Int64Array

# As in Ultralytics' non_max_suppression: a flood of candidates must not stall a frame.
MAX_CANDIDATES = 30_000


def postprocess(
    outputs: Sequence[AnyArray], head: Head, context: HeadContext, choice: ClassChoice, way_back: NetworkToImage
) -> Detections:
    """Decodes, chooses, suppresses and maps back; best score first. Raises OutputError when the outputs do not fit."""
    found = head.decode(outputs, choice.lowest_score, context)
    return choose(found, choice, way_back, needs_nms=head.needs_nms)


def choose(found: Candidates, choice: ClassChoice, way_back: NetworkToImage, *, needs_nms: bool) -> Detections:
    """What postprocess does after decoding; raises OutputError for a score that is not finite."""
    # A head looks at what the network gave; products of large numbers, or their float32, may still be infinite.
    require_finite(found.scores, "scores")
    kept = _kept(found, needs_nms, choice)
    others = (found.other_scores[kept], found.other_class_ids[kept]) if found.other_scores.size else ()
    return Detections(
        way_back.map_boxes(found.boxes_xyxy[kept]),
        found.scores[kept],
        found.class_ids[kept].astype(np.int64, copy=False),
        *others,
    )


def _kept(found: Candidates, needs_nms: bool, choice: ClassChoice) -> Int64Array:
    """Indices of the candidates that become detections, best first."""
    boxes, scores, class_ids = found.boxes_xyxy, found.scores, found.class_ids
    mask = choice.kept(scores, class_ids)
    indices: Int64Array | None = None if mask is None else np.flatnonzero(mask)
    if (scores.size if indices is None else indices.size) > MAX_CANDIDATES:
        indices = _best(scores, np.arange(scores.size) if indices is None else indices)
    if indices is not None:
        boxes, scores, class_ids = boxes[indices], scores[indices], class_ids[indices]
    thresholds = choice.thresholds
    if needs_nms:
        kept = non_maximum_suppression(
            boxes,
            scores,
            class_ids,
            thresholds.iou,
            thresholds.max_detections,
            class_agnostic=thresholds.class_agnostic,
        )
    else:
        kept = np.argsort(-scores, kind="stable")[: thresholds.max_detections]
    return kept if indices is None else indices[kept]


def _best(scores: Float32Array, indices: Int64Array) -> Int64Array:
    """The MAX_CANDIDATES with the best scores, in the order in which they came, so that equal scores keep it."""
    best = np.argpartition(-scores[indices], MAX_CANDIDATES)[:MAX_CANDIDATES]
    return indices[np.sort(best)]
