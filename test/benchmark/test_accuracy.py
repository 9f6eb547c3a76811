"""Matching, differences and label files against cases worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trt_perception.benchmark.accuracy import Results, agreement, matched_overlaps
from trt_perception.benchmark.labels import read_labels
from trt_perception.errors import PerceptionError
from trt_perception.types import Detections


def found(*boxes: tuple[float, float, float, float, int]) -> Detections:
    array = np.array([b[:4] for b in boxes], np.float32).reshape(-1, 4)
    return Detections(array, np.full(len(boxes), 0.9, np.float32), np.array([b[4] for b in boxes], np.int64))


def test_a_detection_is_matched_once_and_within_its_class() -> None:
    a = found((0, 0, 10, 10, 1), (0, 0, 10, 9, 1), (50, 50, 60, 60, 2))
    b = found((0, 0, 10, 10, 1), (50, 50, 60, 60, 3))
    assert matched_overlaps(a, b) == [1.0]
    assert matched_overlaps(a, found()) == []


def test_overlap_below_a_half_is_no_match() -> None:
    assert matched_overlaps(found((0, 0, 10, 10, 0)), found((5, 0, 15, 10, 0))) == []  # a third
    assert matched_overlaps(found((0, 0, 10, 10, 0)), found((2, 0, 12, 10, 0))) == [pytest.approx(80 / 120)]


def results(raw: list[float], detections: Detections) -> Results:
    return Results(((np.array([raw], np.float32),),), (detections,), (detections,))


def test_agreement() -> None:
    mine = results([1.0, 2.0, 3.0], found((0, 0, 10, 10, 0), (20, 0, 30, 10, 0)))
    its = results([1.0, 2.5, 2.0], found((0, 0, 10, 10, 0)))
    both = agreement(mine, its)
    assert both.max_abs_difference == 1.0
    assert both.mean_abs_difference == pytest.approx(0.5)
    assert (both.matched_count, both.detection_count, both.reference_count) == (1, 2, 1)
    assert both.share == pytest.approx(2 / 3)
    nothing = agreement(results([0.0], found()), results([0.0], found()))
    assert nothing.share == 1.0
    assert nothing.mean_iou is None


def test_outputs_of_another_shape_are_not_compared() -> None:
    both = agreement(results([1.0], found()), results([1.0, 2.0], found()))
    assert both.max_abs_difference is None
    assert both.incomparable == "outputs of shape [(1, 1)], the reference's are [(1, 2)]"


COCO = {
    "images": [{"id": 7, "file_name": "sub/a.png"}, {"id": 8, "file_name": "b.png"}],
    "categories": [{"id": 90, "name": "cat"}, {"id": 91, "name": "unknown"}],
    "annotations": [
        {"image_id": 7, "category_id": 90, "bbox": [10, 20, 30, 40]},
        {"image_id": 7, "category_id": 91, "bbox": [0, 0, 1, 1]},
        {"image_id": 7, "category_id": 90, "bbox": [0, 0, 99, 99], "iscrowd": 1},
    ],
}


def test_coco(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(COCO))
    b, a = read_labels(path, ["b.png", "a.png"], [(100, 100)] * 2, ["dog", "cat"])
    assert len(b.class_ids) == 0
    assert a.boxes_xyxy.tolist() == [[10, 20, 40, 60]]
    assert a.class_ids.tolist() == [1]
    with pytest.raises(PerceptionError, match=r"know no picture 'c\.png'"):
        read_labels(path, ["c.png"], [(1, 1)], ["cat"])


def test_yolo(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("3 0.5 0.5 0.2 0.4\n\n")
    a, b = read_labels(tmp_path, ["a.png", "b.png"], [(200, 100), (1, 1)], [])
    assert a.boxes_xyxy.tolist() == [pytest.approx([80, 30, 120, 70])]
    assert a.class_ids.tolist() == [3]
    assert b.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"images": [1], "categories": [], "annotations": []}'])
def test_labels_of_neither_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(PerceptionError, match="neither COCO's JSON nor YOLO's text"):
        read_labels(path, ["a.png"], [(1, 1)], [])


def test_a_yolo_line_of_five_words_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("3 0.5 0.5\n")
    with pytest.raises(PerceptionError, match="neither"):
        read_labels(tmp_path, ["a.png"], [(1, 1)], [])
