"""How far one backend's results are from another's, and from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_perception.benchmark.labels import Truth
from trt_perception.evaluation import mean_average_precision, pairwise_iou
from trt_perception.types import AnyArray, Detections

MATCH_IOU = 0.5


@dataclass(frozen=True)
class Agreement:
    """One backend beside the reference, over all pictures.

    max_abs_difference, mean_abs_difference: of the raw outputs, None where their number or shapes differ (then
    incomparable says how). matched_count: detections of the same class that overlap by at least 0.5 (intersection over
    union), each taken once; detection_count, reference_count: all detections of the two; mean_iou: of the matched.
    """

    max_abs_difference: float | None
    mean_abs_difference: float | None
    incomparable: str | None
    matched_count: int
    detection_count: int
    reference_count: int
    mean_iou: float | None

    @property
    def share(self) -> float:
        """2 matched / (both counts), 1 where neither found anything: 0 to 1."""
        both = self.detection_count + self.reference_count
        return 2 * self.matched_count / both if both else 1.0


@dataclass(frozen=True)
class Precision:
    """Mean average precision as COCO defines it, 0 to 1."""

    map50: float
    map50_95: float


@dataclass(frozen=True, eq=False)
class Results:
    """What BenchSubject.save_outputs wrote: for each picture the raw outputs and two sets of detections."""

    raw: tuple[tuple[AnyArray, ...], ...]
    found: tuple[Detections, ...]
    found_at_low_threshold: tuple[Detections, ...]


def read_results(path: Path, picture_count: int) -> Results:
    """Reads the .npz file."""
    with np.load(path) as archive:
        arrays: Mapping[str, Any] = {name: archive[name] for name in archive.files}
    raw = []
    for index in range(picture_count):
        places = sorted((n for n in arrays if n.startswith(f"raw_{index}_")), key=lambda n: int(n.split("_")[2]))
        raw.append(tuple(arrays[name] for name in places))
    found, low = (
        tuple(
            Detections(arrays[f"{p}boxes_{i}"], arrays[f"{p}scores_{i}"], arrays[f"{p}classes_{i}"])
            for i in range(picture_count)
        )
        for p in ("", "map_")
    )
    return Results(tuple(raw), found, low)


def agreement(results: Results, reference: Results) -> Agreement:
    """Compares two backends on the same pictures."""
    pairs = [
        (a.astype(np.float64), b.astype(np.float64))
        for mine, its in zip(results.raw, reference.raw, strict=True)
        for a, b in zip(mine, its, strict=False)
    ]
    incomparable = _incomparable(results.raw[0], reference.raw[0])
    largest = mean = None
    if incomparable is None:
        differences = [np.abs(a - b) for a, b in pairs]
        largest = float(max(d.max(initial=0.0) for d in differences))
        mean = float(sum(d.sum() for d in differences) / max(sum(d.size for d in differences), 1))
    overlaps = [iou for a, b in zip(results.found, reference.found, strict=True) for iou in matched_overlaps(a, b)]
    return Agreement(
        largest,
        mean,
        incomparable,
        len(overlaps),
        sum(map(len, results.found)),
        sum(map(len, reference.found)),
        float(np.mean(overlaps)) if overlaps else None,
    )


def matched_overlaps(a: Detections, b: Detections) -> list[float]:
    """Intersection over union of each pair of detections of one class that belong together, largest overlap first."""
    iou = pairwise_iou(a.boxes_xyxy, b.boxes_xyxy)
    iou[a.class_ids[:, None] != b.class_ids[None, :]] = 0.0
    overlaps = []
    while iou.size and iou.max() >= MATCH_IOU:
        row, column = np.unravel_index(int(iou.argmax()), iou.shape)
        overlaps.append(float(iou[row, column]))
        iou[row, :] = iou[:, column] = 0.0
    return overlaps


def precision(results: Results, truths: Sequence[Truth]) -> Precision:
    """Average precision of the detections at a low threshold."""
    found = mean_average_precision(results.found_at_low_threshold, truths)
    return Precision(found.map50, found.map50_95)


def _incomparable(mine: Sequence[AnyArray], its: Sequence[AnyArray]) -> str | None:
    shapes, others = [a.shape for a in mine], [a.shape for a in its]
    return None if shapes == others else f"outputs of shape {shapes}, the reference's are {others}"
