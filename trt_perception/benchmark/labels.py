"""What is truly in the user's pictures: COCO's JSON or YOLO's text files.

Sources of the formats: https://cocodataset.org/#format-data, https://docs.ultralytics.com/datasets/detect.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_perception.errors import PerceptionError
from trt_perception.types import Float32Array, Int64Array


@dataclass(frozen=True, eq=False)
class Truth:
    """boxes_xyxy: float32 (N, 4), left, top, right, bottom in pixels of the picture; class_ids: int64 (N,)."""

    boxes_xyxy: Float32Array
    class_ids: Int64Array


def read_labels(
    path: Path, names: Sequence[str], sizes: Sequence[tuple[int, int]], labels: Sequence[str]
) -> tuple[Truth, ...]:
    """The truth of each picture, in the order of names.

    path: a COCO .json, or a folder with one YOLO .txt a picture (none: the picture is empty). sizes: width, height in
    pixels. labels: the model's class names, by which COCO's categories are found. Raises PerceptionError.
    """
    try:
        if path.is_dir():
            return tuple(_yolo(path / f"{Path(n).stem}.txt", *size) for n, size in zip(names, sizes, strict=True))
        return _coco(json.loads(path.read_text(encoding="utf-8")), names, labels)
    except OSError as error:
        raise PerceptionError(
            f"the labels {path} cannot be read ({error.strerror}); give COCO's JSON or a folder of YOLO text files"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise PerceptionError(
            f"the labels {path} are neither COCO's JSON nor YOLO's text ({type(error).__name__}: {error})"
        ) from error


def _coco(document: dict[str, Any], names: Sequence[str], labels: Sequence[str]) -> tuple[Truth, ...]:
    class_of = {
        category["id"]: labels.index(category["name"])
        for category in document["categories"]
        if category["name"] in labels
    }
    id_of = {Path(image["file_name"]).name: image["id"] for image in document["images"]}
    strangers = [name for name in names if name not in id_of]
    if strangers:
        raise PerceptionError(f"the labels know no picture {strangers[0]!r} ({len(strangers)} of {len(names)} missing)")
    boxes: dict[Any, list[tuple[list[float], int]]] = {image_id: [] for image_id in id_of.values()}
    for entry in document["annotations"]:
        if entry["category_id"] in class_of and not entry.get("iscrowd") and entry["image_id"] in boxes:
            x, y, width, height = map(float, entry["bbox"])
            boxes[entry["image_id"]].append(([x, y, x + width, y + height], class_of[entry["category_id"]]))
    return tuple(_truth(boxes[id_of[name]]) for name in names)


def _yolo(path: Path, width: int, height: int) -> Truth:
    """Lines of class, centre x, centre y, width, height, the last four as shares of the picture."""
    if not path.is_file():
        return _truth([])
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            class_id, x, y, w, h = line.split()
            cx, cy, half_w, half_h = float(x) * width, float(y) * height, float(w) * width / 2, float(h) * height / 2
            found.append(([cx - half_w, cy - half_h, cx + half_w, cy + half_h], int(class_id)))
    return _truth(found)


def _truth(found: list[tuple[list[float], int]]) -> Truth:
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([class_id for _, class_id in found], np.int64))
