"""The YOLOv8 head decodes outputs that a slow loop made, and refuses what is not its own."""

from __future__ import annotations

import numpy as np
import pytest

from trt_perception.errors import ModelFileError, OutputError
from trt_perception.heads import HEADS, HeadContext, head_for
from trt_perception.types import AnyArray, Float32Array


def encode(boxes: list[tuple[float, float, float, float, int, float]], classes: int, anchors: int) -> Float32Array:
    """Writes left, top, right, bottom, class, score at every third anchor, in the layout of Ultralytics' export."""
    output = np.zeros((1, 4 + classes, anchors), np.float32)
    for index, (left, top, right, bottom, class_id, score) in enumerate(boxes):
        column = 3 * index + 1
        for row, value in enumerate(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)):
            output[0, row, column] = value
        output[0, 4 + class_id, column] = score
    return output


BOXES = [(10.0, 20.0, 50.0, 40.0, 2, 0.9), (-5.0, 0.0, 3.0, 8.0, 0, 0.3), (100.0, 90.0, 110.0, 190.0, 1, 0.5)]


@pytest.mark.parametrize("class_count", [3, 0])
def test_boxes_come_out_as_they_went_in(class_count: int) -> None:
    found = head_for("yolov8").decode([encode(BOXES, 3, 20)], 0.25, HeadContext(320, 320, class_count))
    np.testing.assert_allclose(found.boxes_xyxy, [b[:4] for b in BOXES])
    np.testing.assert_allclose(found.scores, [b[5] for b in BOXES])
    np.testing.assert_array_equal(found.class_ids, [b[4] for b in BOXES])
    assert found.boxes_xyxy.dtype == np.float32
    assert found.scores.dtype == np.float32
    assert np.issubdtype(found.class_ids.dtype, np.integer)


def test_a_score_at_the_threshold_is_none() -> None:
    output = encode([(0, 0, 1, 1, 0, 0.5), (0, 0, 1, 1, 0, 0.75)], 2, 10)
    np.testing.assert_allclose(head_for("yolov8").decode([output], 0.5, HeadContext(320, 320, 2)).scores, [0.75])


def test_a_box_has_the_class_of_its_highest_score() -> None:
    output = encode([(0, 0, 1, 1, 0, 0.5)], 3, 4)
    output[0, 4 + 2, 1] = 0.6
    found = head_for("yolov8").decode([output], 0.25, HeadContext(320, 320, 3))
    assert (found.class_ids.tolist(), len(found.scores)) == ([2], 1)


def test_nothing_found_keeps_the_shapes() -> None:
    found = head_for("yolov8").decode([encode([], 3, 20)], 0.25, HeadContext(320, 320, 3))
    assert (found.boxes_xyxy.shape, found.scores.shape, found.class_ids.shape) == ((0, 4), (0,), (0,))


def test_no_anchors() -> None:
    assert head_for("yolov8").decode(
        [np.zeros((1, 7, 0), np.float32)], 0.25, HeadContext(320, 320, 3)
    ).boxes_xyxy.shape == (0, 4)


def test_half_precision_comes_out_as_single() -> None:
    output = encode([(100, 100, 301, 303, 1, 0.5)], 3, 8).astype(np.float16)
    found = head_for("yolov8").decode([output], 0.25, HeadContext(320, 320, 3))
    assert found.boxes_xyxy.dtype == np.float32
    np.testing.assert_allclose(found.boxes_xyxy, [[100, 100, 301, 303]], atol=0.25)


def test_only_the_first_image_of_a_batch() -> None:
    batch = np.concatenate([encode(BOXES[:1], 3, 20), encode(BOXES, 3, 20)])
    assert len(head_for("yolov8").decode([batch], 0.25, HeadContext(320, 320, 3)).scores) == 1


NOT_ITS_OWN: dict[str, list[AnyArray]] = {
    "nothing": [],
    "too few axes": [np.zeros((7, 20), np.float32)],
    "no image": [np.zeros((0, 7, 20), np.float32)],
    "no class": [np.zeros((1, 4, 20), np.float32)],
    "other classes": [np.zeros((1, 84, 20), np.float32)],
    "boxes already suppressed": [np.zeros((1, 300, 6), np.float32)],
}


@pytest.mark.parametrize("case", NOT_ITS_OWN)
def test_other_shapes_are_refused_with_what_came_and_what_was_expected(case: str) -> None:
    outputs = NOT_ITS_OWN[case]
    with pytest.raises(OutputError) as caught:
        head_for("yolov8").decode(outputs, 0.25, HeadContext(320, 320, 3))
    message = str(caught.value)
    assert (str(tuple(outputs[0].shape)) if outputs else "nothing") in message
    assert "expects (batch, 7, anchors)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("row", "what"), [(1, "boxes"), (5, "scores")])
def test_what_is_not_finite_is_refused(value: float, row: int, what: str) -> None:
    output = encode(BOXES, 3, 20)
    output[0, row, 1] = value
    with pytest.raises(OutputError, match=f"the network's {what} hold NaN or infinite values"):
        head_for("yolov8").decode([output], 0.25, HeadContext(320, 320, 3))


def test_an_anchor_with_no_finite_score_at_all_is_refused() -> None:
    output = encode(BOXES, 3, 20)
    output[0, 4:, 1] = -np.inf
    with pytest.raises(OutputError, match="the network's scores hold NaN or infinite values"):
        head_for("yolov8").decode([output], 0.25, HeadContext(320, 320, 3))


def test_an_unknown_head_names_those_that_exist() -> None:
    with pytest.raises(ModelFileError, match=f"head 'yolo99' is not known; use one of {', '.join(HEADS)}"):
        head_for("yolo99")
