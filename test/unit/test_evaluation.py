"""Mean average precision: cases worked out by hand, and agreement with COCO's own implementation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_perception.evaluation import mean_average_precision, pairwise_iou


@dataclass(frozen=True)
class Boxes:
    """Boxes with scores; as ground truth the scores are ignored."""

    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


def boxes(*rows: tuple[float, float, float, float, int, float]) -> Boxes:
    """Each row: left, top, right, bottom, class, score."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(table[:, :4].astype(np.float32), table[:, 4].astype(np.int64), table[:, 5].astype(np.float32))


SQUARE = (0.0, 0.0, 10.0, 10.0)


def test_perfect_detections_score_one() -> None:
    truth = boxes((*SQUARE, 0, 1), (20, 20, 40, 30, 1, 1))
    result = mean_average_precision([truth], [truth])
    assert result.map50 == 1.0
    assert result.map50_95 == 1.0
    assert result.ap50_by_class == {0: 1.0, 1: 1.0}
    assert (result.image_count, result.truth_count, result.detection_count) == (1, 2, 2)


def test_a_better_scored_false_positive_halves_the_precision() -> None:
    found = boxes((50, 50, 60, 60, 0, 0.9), (*SQUARE, 0, 0.8))
    assert mean_average_precision([found], [boxes((*SQUARE, 0, 1))]).map50 == pytest.approx(0.5)


def test_a_worse_scored_false_positive_costs_nothing() -> None:
    found = boxes((50, 50, 60, 60, 0, 0.7), (*SQUARE, 0, 0.8))
    assert mean_average_precision([found], [boxes((*SQUARE, 0, 1))]).map50 == 1.0


def test_one_of_two_found_reaches_51_of_101_recall_levels() -> None:
    truth = boxes((*SQUARE, 0, 1), (20, 20, 30, 30, 0, 1))
    assert mean_average_precision([boxes((*SQUARE, 0, 0.9))], [truth]).map50 == pytest.approx(51 / 101)


def test_overlap_decides_at_how_many_thresholds_a_box_counts() -> None:
    found = boxes((0, 0, 10, 7.2, 0, 0.9))  # overlap 0.72: right at 0.5, 0.55, 0.6, 0.65 and 0.7
    result = mean_average_precision([found], [boxes((*SQUARE, 0, 1))])
    assert result.map50 == 1.0
    assert result.map50_95 == pytest.approx(0.5)


def test_a_second_box_on_the_same_truth_is_a_false_positive() -> None:
    truth = boxes((*SQUARE, 0, 1), (20, 20, 30, 30, 0, 1))
    found = boxes((*SQUARE, 0, 0.9), (0, 0, 10, 9, 0, 0.8), (20, 20, 30, 30, 0, 0.7))
    expected = (51 * 1.0 + 50 * (2 / 3)) / 101
    assert mean_average_precision([found], [truth]).map50 == pytest.approx(expected)


def test_the_wrong_class_is_no_match_and_a_class_without_truth_does_not_count() -> None:
    truth = boxes((*SQUARE, 0, 1))
    result = mean_average_precision([boxes((*SQUARE, 1, 0.9))], [truth])
    assert result.map50 == 0.0
    assert result.ap50_by_class == {0: 0.0}


def test_nothing_detected_scores_zero_and_nothing_to_find_is_undefined() -> None:
    truth = boxes((*SQUARE, 0, 1))
    assert mean_average_precision([boxes()], [truth]).map50_95 == 0.0
    assert math.isnan(mean_average_precision([truth], [boxes()]).map50)
    assert math.isnan(mean_average_precision([], []).map50_95)


def test_images_are_ranked_together() -> None:
    truth = boxes((*SQUARE, 0, 1))
    found = [boxes((50, 50, 60, 60, 0, 0.9)), boxes((*SQUARE, 0, 0.8))]
    assert mean_average_precision(found, [truth, truth]).map50 == pytest.approx(51 * 0.5 / 101)


def test_max_detections_keeps_the_best_scores() -> None:
    found = boxes((50, 50, 60, 60, 0, 0.9), (*SQUARE, 0, 0.8))
    assert mean_average_precision([found], [boxes((*SQUARE, 0, 1))], max_detections=1).map50 == 0.0


def test_different_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="detections of 1 images and truths of 0"):
        mean_average_precision([boxes()], [])


def test_iou_of_empty_boxes_is_zero() -> None:
    empty = np.zeros((1, 4), np.float32)
    assert pairwise_iou(empty, empty).tolist() == [[0.0]]


def random_case(rng: np.random.Generator, image_count: int) -> tuple[list[Boxes], list[Boxes]]:
    """Truths, and detections that are jittered truths, some with the wrong class, missing, doubled or invented."""
    truths, found = [], []
    for _ in range(image_count):
        count = int(rng.integers(0, 12))
        corners = rng.uniform(0, 200, (count, 2))
        truth = np.hstack([corners, corners + rng.uniform(8, 80, (count, 2))])
        ids = rng.integers(0, 4, count)
        truths.append(Boxes(truth.astype(np.float32), ids.astype(np.int64), np.ones(count, np.float32)))
        chosen = np.repeat(np.arange(count), 2)[rng.random(2 * count) < 0.7]
        jittered = truth[chosen] + rng.normal(0, 2, (len(chosen), 4))
        invented = rng.uniform(0, 100, (int(rng.integers(0, 4)), 4)) + np.array([0, 0, 110, 110])
        candidates = np.vstack([jittered, invented]).astype(np.float32)
        right = np.concatenate([ids[chosen], rng.integers(0, 4, len(invented))])
        guesses = np.where(rng.random(len(candidates)) < 0.8, right, 3)
        scores = np.round(rng.random(len(candidates)), 2)  # rounded, so that some tie
        found.append(Boxes(candidates, guesses.astype(np.int64), scores.astype(np.float32)))
    return found, truths


def coco_means(found: list[Boxes], truths: list[Boxes]) -> tuple[float, float]:
    """mAP50 and mAP50-95 by pycocotools."""
    coco_module = pytest.importorskip("pycocotools.coco", reason="pycocotools, the oracle, is not installed")
    evaluation_module = pytest.importorskip("pycocotools.cocoeval")

    def rows(images: list[Boxes]) -> list[dict[str, Any]]:
        flat = [
            (image_id, [float(v) for v in (b[0], b[1], b[2] - b[0], b[3] - b[1])], int(class_id), float(score))
            for image_id, image in enumerate(images, start=1)
            for b, class_id, score in zip(
                image.boxes_xyxy.astype(np.float64), image.class_ids, image.scores, strict=True
            )
        ]
        return [
            {
                "id": number,
                "image_id": image_id,
                "bbox": bbox,
                "category_id": class_id + 1,
                "score": score,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
            }
            for number, (image_id, bbox, class_id, score) in enumerate(flat, start=1)
        ]

    truth = coco_module.COCO()
    truth.dataset = {
        "images": [{"id": image_id} for image_id in range(1, len(truths) + 1)],
        "categories": [{"id": class_id} for class_id in range(1, 5)],
        "annotations": rows(truths),
    }
    truth.createIndex()
    detected = coco_module.COCO()
    detected.dataset = {**truth.dataset, "annotations": rows(found)}
    detected.createIndex()
    evaluation = evaluation_module.COCOeval(truth, detected, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[1]), float(evaluation.stats[0])


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_pycocotools(seed: int) -> None:
    found, truths = random_case(np.random.default_rng(seed), image_count=30)
    expected_map50, expected_map50_95 = coco_means(found, truths)
    result = mean_average_precision(found, truths)
    assert 0.1 < result.map50 < 0.95  # a case that could tell two implementations apart
    assert result.map50 == pytest.approx(expected_map50, abs=1e-9)
    assert result.map50_95 == pytest.approx(expected_map50_95, abs=1e-9)
