"""From raw outputs to detections in the picture's pixels."""

from __future__ import annotations

import numpy as np
import pytest

from trt_perception.class_choice import ClassChoice
from trt_perception.errors import PerceptionError
from trt_perception.heads import HeadContext, head_for
from trt_perception.placement import NetworkToImage
from trt_perception.postprocess import MAX_CANDIDATES, postprocess
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
    labels = [f"class {i}" for i in range(classes)]
    choice = ClassChoice(thresholds or Thresholds(), labels)
    return postprocess([output], head_for("yolov8"), HeadContext(100, 100, classes), choice, WAY_BACK)


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
    batched = True
    layout = "as YOLOv8"
    fits = staticmethod(head_for("yolov8").fits)
    decode = staticmethod(head_for("yolov8").decode)


def test_a_head_that_suppresses_itself_is_left_alone() -> None:
    same = output_of((50, 50, 10, 10, 0, 0.4), (50, 50, 10, 10, 0, 0.8))
    found = postprocess([same], Suppressed(), HeadContext(100, 100, 2), ClassChoice(Thresholds(), "ab"), WAY_BACK)
    np.testing.assert_allclose(found.scores, [0.8, 0.4])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"score": -0.1}, "score threshold is -0.1; give a number from 0 to 1"),
        ({"iou": 1.1}, "iou threshold is 1.1"),
        ({"score": float("nan")}, "score threshold is nan"),
        ({"max_detections": 0}, "max_detections is 0; give at least 1"),
        ({"per_class": (("a", 0.5), ("b", 2.0))}, "score of class 'b' threshold is 2.0; give a number from 0 to 1"),
    ],
)
def test_thresholds_out_of_range_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(PerceptionError, match=words):
        Thresholds(**values)  # type: ignore[arg-type]


# --- classes --------------------------------------------------------------------------------------------------

LABELS = ("cat", "dog", "cat")
OVERLAPPING = output_of((50, 50, 20, 10, 0, 0.8), (50, 50, 20, 11, 1, 0.6), (20, 20, 6, 6, 2, 0.3), classes=3)


def of_classes(thresholds: Thresholds, labels: tuple[str, ...] = LABELS) -> list[tuple[int, float]]:
    choice = ClassChoice(thresholds, labels)
    found = postprocess([OVERLAPPING], head_for("yolov8"), HeadContext(100, 100, 3), choice, WAY_BACK)
    return [(int(i), round(float(s), 3)) for i, s in zip(found.class_ids, found.scores, strict=True)]


def test_class_agnostic_suppresses_across_classes() -> None:
    assert of_classes(Thresholds()) == [(0, 0.8), (1, 0.6), (2, 0.3)]
    assert of_classes(Thresholds(class_agnostic=True)) == [(0, 0.8), (2, 0.3)]


def test_a_name_that_stands_twice_means_both_classes() -> None:
    assert of_classes(Thresholds(classes=("cat",))) == [(0, 0.8), (2, 0.3)]
    assert of_classes(Thresholds(classes=("dog",))) == [(1, 0.6)]
    assert of_classes(Thresholds(per_class=(("cat", 0.5),))) == [(0, 0.8), (1, 0.6)]


def test_a_class_that_is_not_wanted_suppresses_nothing() -> None:
    assert of_classes(Thresholds(classes=("dog",), class_agnostic=True)) == [(1, 0.6)]


def test_a_class_may_have_a_lower_threshold_than_the_others() -> None:
    assert of_classes(Thresholds(score=0.7)) == [(0, 0.8)]
    assert of_classes(Thresholds(score=0.7, per_class=(("dog", 0.5),))) == [(0, 0.8), (1, 0.6)]
    assert of_classes(Thresholds(score=0.7, per_class=(("dog", 0.6),))) == [(0, 0.8)]
    assert of_classes(Thresholds(score=0.1, classes=("dog",), per_class=(("dog", 0.7),))) == []


def test_a_class_without_a_name_goes_by_its_number() -> None:
    assert of_classes(Thresholds(classes=("1",)), labels=()) == [(1, 0.6)]
    assert of_classes(Thresholds(classes=("2", "cat")), labels=("cat", "dog")) == [(0, 0.8), (2, 0.3)]


@pytest.mark.parametrize("name", ["bird", "0", "-1"])
def test_a_class_that_does_not_exist_is_refused(name: str) -> None:
    for thresholds in (Thresholds(classes=(name,)), Thresholds(per_class=((name, 0.5),))):
        with pytest.raises(PerceptionError, match=f"no class '{name}'; its classes are cat, dog, cat"):
            ClassChoice(thresholds, LABELS)


def test_the_whole_picture_comes_back_as_the_whole_picture() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7]], np.float32))
    for way_back in (WAY_BACK, NetworkToImage(2.0, 2.0, -30.0, 0.0, 640, 480)):
        found = postprocess(
            [logits], head_for("classification"), HeadContext(64, 64, 3), ClassChoice(Thresholds(), LABELS), way_back
        )
        np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, way_back.image_width, way_back.image_height]])
        np.testing.assert_allclose(found.other_scores, [[0.2, 0.1]], atol=1e-6)
        assert (found.class_ids.tolist(), found.other_class_ids.tolist()) == ([2], [[1, 0]])
