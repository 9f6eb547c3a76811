"""How good detections are: mean average precision as the COCO benchmark defines it, with numpy alone.

Source: https://cocodataset.org/#detection-eval and T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context",
ECCV 2014. For each class and each overlap threshold, detections of all images are taken best score first; each is
matched to the free true box of its class that it overlaps most, if that overlap (intersection over union) reaches
the threshold. Precision, made non-increasing over recall, is then averaged at 101 recall levels 0, 0.01 ... 1.
Crowd regions and area ranges, which COCO has besides, are left out: they need annotations that boxes do not carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlap thresholds of mAP50-95: 0.5, 0.55 ... 0.95 (float64)."""

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
"""Recall levels at which COCO reads the precision curve (float64)."""

MAX_DETECTIONS = 100
"""COCO's limit of detections counted per image and class."""


class LabelledBoxes(Protocol):
    """What is truly in an image (a Scene, for one)."""

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """float32 (N, 4): left, top, right, bottom, in any unit shared with the detections."""

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """int64 (N,)."""


class ScoredBoxes(LabelledBoxes, Protocol):
    """What was detected in an image (Detections, for one); the order does not matter."""

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 (N,), higher is surer."""


@dataclass(frozen=True)
class MeanAveragePrecision:
    """The result, each value 0 (all wrong) to 1 (all right).

    map50: mean over classes at overlap 0.5. map50_95: mean over classes and the ten IOU_THRESHOLDS.
    ap50_by_class: the same as map50 for each class that truly occurs. Both means are nan where nothing truly occurs.
    image_count, truth_count, detection_count: what was compared (detections before the limit per class).
    """

    map50: float
    map50_95: float
    ap50_by_class: dict[int, float]
    image_count: int
    truth_count: int
    detection_count: int


@dataclass(frozen=True)
class _ClassMatches:
    """One class in one image: scores float32 (D,) best first, hits bool (10, D) per IOU threshold."""

    scores: NDArray[np.float32]
    hits: NDArray[np.bool_]


def mean_average_precision(
    detections: Sequence[ScoredBoxes], truths: Sequence[LabelledBoxes], *, max_detections: int = MAX_DETECTIONS
) -> MeanAveragePrecision:
    """Compares the detections of each image with what is truly there.

    detections[i] and truths[i] belong to the same image. Detections of a class that truly occurs in no image are
    left out, as in COCO: such a class has no recall, hence no average precision.

    Raises ValueError when the two sequences differ in length.
    """
    if len(detections) != len(truths):
        raise ValueError(
            f"detections of {len(detections)} images and truths of {len(truths)} came; "
            "expected one entry each per image, an empty one where nothing is found or there"
        )
    class_ids = sorted({int(class_id) for truth in truths for class_id in truth.class_ids})
    curves = {class_id: _average_precisions(detections, truths, class_id, max_detections) for class_id in class_ids}
    table = np.array([curves[class_id] for class_id in class_ids])
    return MeanAveragePrecision(
        map50=float(table[:, 0].mean()) if class_ids else float("nan"),
        map50_95=float(table.mean()) if class_ids else float("nan"),
        ap50_by_class={class_id: float(curves[class_id][0]) for class_id in class_ids},
        image_count=len(truths),
        truth_count=sum(len(truth.class_ids) for truth in truths),
        detection_count=sum(len(found.class_ids) for found in detections),
    )


def pairwise_iou(a_xyxy: NDArray[np.float32], b_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns intersection over union of boxes (A, 4) with boxes (B, 4) as float64 (A, B); 0 for two empty boxes."""
    a, b = a_xyxy.astype(np.float64)[:, None], b_xyxy.astype(np.float64)[None, :]
    sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0.0)
    common = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    iou: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou


def _average_precisions(
    detections: Sequence[ScoredBoxes], truths: Sequence[LabelledBoxes], class_id: int, max_detections: int
) -> NDArray[np.float64]:
    """Returns the average precision of one class at each IOU threshold, float64 (10,)."""
    matches = [_match(found, truth, class_id, max_detections) for found, truth in zip(detections, truths, strict=True)]
    truth_count = sum(int((truth.class_ids == class_id).sum()) for truth in truths)
    order = np.argsort(-np.concatenate([match.scores for match in matches]), kind="stable")
    hits = np.concatenate([match.hits for match in matches], axis=1)[:, order]
    true_positives = np.cumsum(hits, axis=1)
    recall = true_positives / truth_count
    precision = true_positives / np.arange(1, hits.shape[1] + 1)
    # Precision at a recall is the best that any lower score threshold still gives.
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    levels = np.zeros((len(IOU_THRESHOLDS), len(RECALL_LEVELS)))
    for row in range(len(IOU_THRESHOLDS)):
        places = np.searchsorted(recall[row], RECALL_LEVELS, side="left")
        reached = places < hits.shape[1]
        levels[row, reached] = envelope[row, places[reached]]
    averages: NDArray[np.float64] = levels.mean(axis=1)
    return averages


def _match(found: ScoredBoxes, truth: LabelledBoxes, class_id: int, max_detections: int) -> _ClassMatches:
    """Gives each detection of one class in one image its free true box, best score first, at every threshold."""
    of_class = found.class_ids == class_id
    scores = found.scores[of_class]
    order = np.argsort(-scores, kind="stable")[:max_detections]
    iou = pairwise_iou(found.boxes_xyxy[of_class][order], truth.boxes_xyxy[truth.class_ids == class_id])
    hits = np.zeros((len(IOU_THRESHOLDS), len(order)), np.bool_)
    if iou.shape[1] == 0:
        return _ClassMatches(scores[order], hits)
    for row, threshold in enumerate(IOU_THRESHOLDS):
        free = np.ones(iou.shape[1], np.bool_)
        for column in range(len(order)):
            overlaps = np.where(free, iou[column], -1.0)
            best = int(overlaps.argmax())
            if overlaps[best] >= threshold:
                free[best] = False
                hits[row, column] = True
    return _ClassMatches(scores[order], hits)
