"""From raw outputs to detections in the picture's pixels."""

from __future__ import annotations

import numpy as np
import pytest

from trt_perception.errors import PerceptionError
from trt_perception.heads import head_for
from trt_perception.postprocess import MAX_CANDIDATES, postprocess
from trt_perception.preprocess import NetworkToImage
from trt_perception.types import Detections, Float32Array, Thresholds

# The network's 100x100 input shows a 200x100 picture at half its size, below a border of 25.
WAY_BACK = NetworkToImage(0.5, 0.5, 0.0, 25.0, 200, 100)


def output_of(*candidates: tuple[float, float, float, float, int, float], classes: int = 2) -> Float32Array:
    """Centre, size, class and score of each anchor."""
    output = np.zeros((1, 4 + classes, max(len(candidates), 1)), np.float32)
    for column, (x, y, width, height, class_id, score) in enumerate(candidates):
        output[0, :4, column] = x, y, width, height
        output[0, 4 + class_id, column] = score
    return output


def run(output: Float32Array, thresholds: Thresholds | None = None, classes: int = 2) -> Detections:
    return postprocess([output], head_for("yolov8"), classes, thresholds or Thresholds(), WAY_BACK)


def test_a_box_comes_back_in_the_pixels_of_the_picture() -> None:
    found = run(output_of((50, 50, 20, 10, 1, 0.8)))
    np.testing.assert_allclose(found.boxes_xyxy, [[80, 40, 120, 60]])
    np.testing.assert_allclose(found.scores, [0.8])
    assert found.class_ids.tolist() == [1]
    assert found.boxes_xyxy.dtype == np.float32
    assert found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int64
    assert len(found) == 1


def test_suppression_happens_before_clipping() -> None:
    # Both are cut to the same box by the picture's border, and are far from the same box in the network.
    found = run(output_of((0, 50, 10, 50, 0, 0.9), (0, 50, 200, 50, 0, 0.8)), Thresholds(iou=0.5))
    assert len(found) == 2


def test_best_first_and_no_more_than_asked_for() -> None:
    anchors = [(10.0 + 20 * i, 50.0, 5.0, 5.0, 0, 0.3 + 0.1 * i) for i in range(5)]
    np.testing.assert_allclose(run(output_of(*anchors)).scores, [0.7, 0.6, 0.5, 0.4, 0.3], rtol=1e-6)
    few = run(output_of(*anchors), Thresholds(max_detections=2))
    np.testing.assert_allclose(few.scores, [0.7, 0.6], rtol=1e-6)


def test_nothing_found_keeps_the_shapes() -> None:
    found, none = run(output_of()), Detections.none()
    for a, b in ((found.boxes_xyxy, none.boxes_xyxy), (found.scores, none.scores), (found.class_ids, none.class_ids)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_a_flood_of_candidates_keeps_the_best() -> None:
    count = MAX_CANDIDATES + 5000
    random = np.random.default_rng(0)
    output = np.zeros((1, 5, count), np.float32)
    output[0, :2] = random.uniform(0, 100, (2, count))
    output[0, 2:4] = 2
    output[0, 4] = random.permutation(np.linspace(0.3, 0.9, count, dtype=np.float32))
    found = run(output, Thresholds(max_detections=50), classes=1)
    assert len(found) == 50
    assert found.scores[0] == output[0, 4].max()
    assert (np.diff(found.scores) <= 0).all()


class Suppressed:
    """A head whose boxes need no suppression."""

    needs_nms = False
    decode = staticmethod(head_for("yolov8").decode)


def test_a_head_that_suppresses_itself_is_left_alone() -> None:
    same = output_of((50, 50, 10, 10, 0, 0.4), (50, 50, 10, 10, 0, 0.8))
    found = postprocess([same], Suppressed(), 2, Thresholds(), WAY_BACK)
    np.testing.assert_allclose(found.scores, [0.8, 0.4])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"score": -0.1}, "score threshold is -0.1; give a number from 0 to 1"),
        ({"iou": 1.1}, "iou threshold is 1.1"),
        ({"score": float("nan")}, "score threshold is nan"),
        ({"max_detections": 0}, "max_detections is 0; give at least 1"),
    ],
)
def test_thresholds_out_of_range_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(PerceptionError, match=words):
        Thresholds(**values)  # type: ignore[arg-type]
