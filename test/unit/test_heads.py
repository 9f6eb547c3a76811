"""Every head but YOLOv8's: random outputs decoded by slow loops, what is refused, and which shapes are recognised."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.errors import ModelFileError, OutputError
from trt_perception.heads import HEADS, HeadContext, head_for
from trt_perception.heads.base import best_classes, best_products, column_maxima
from trt_perception.heads.recognise import recognise
from trt_perception.model_file import HEAD_NAMES
from trt_perception.types import AnyArray, Float32Array, TensorSpec

WIDTH, HEIGHT, CLASSES = 96, 64, 3
CONTEXT = HeadContext(WIDTH, HEIGHT, CLASSES)
NAMED = HeadContext(WIDTH, HEIGHT, CLASSES, ("boxes", "scores"))
CELLS = 12 * 8 + 6 * 4 + 3 * 2  # of the strides 8, 16, 32
THRESHOLD = 0.3
# left, top, right, bottom, score, class
Row = tuple[float, float, float, float, float, int]


def random(*shape: int, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).random(shape, np.float32)


def expect(head: str, outputs: list[AnyArray], rows: list[Row], context: HeadContext = CONTEXT) -> None:
    """The head gives these candidates in this order, with the documented types."""
    found = head_for(head).decode(outputs, THRESHOLD, context)
    assert len(rows) > 0
    np.testing.assert_allclose(found.boxes_xyxy, [r[:4] for r in rows], atol=1e-3, rtol=1e-5)
    np.testing.assert_allclose(found.scores, [r[4] for r in rows], atol=1e-5)
    assert found.class_ids.tolist() == [r[5] for r in rows]
    assert [str(a.dtype) for a in (found.boxes_xyxy, found.scores, found.class_ids)] == ["float32", "float32", "int64"]


def best_of(scores: Any) -> tuple[float, int]:
    values = [float(s) for s in scores]
    return max(values), values.index(max(values))


def corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


# --- each head against a loop ---------------------------------------------------------------------------------


def anchors_with_objectness(count: int) -> Float32Array:
    output = random(2, count, 5 + CLASSES)
    output[:, :, :2] *= WIDTH
    output[:, :, 2:4] *= 30
    return output


@pytest.mark.parametrize("levels", [False, True])
def test_yolov5(levels: bool) -> None:
    output = anchors_with_objectness(3 * CELLS)
    rows = []
    for x, y, width, height, objectness, *classes in output[0].tolist():
        score, class_id = best_of(objectness * c for c in classes)
        if score > THRESHOLD:
            rows.append((*corners(x, y, width, height), score, class_id))
    # Old exports give the grids too.
    grids: list[AnyArray] = [random(1, 3, 8, 12, 8), random(1, 3, 4, 6, 8)] if levels else []
    expect("yolov5", [output, *grids], rows)
    expect("yolov5", [output, *grids], rows, HeadContext(WIDTH, HEIGHT))


def test_yolox() -> None:
    output = np.random.default_rng(1).normal(0, 1, (1, CELLS, 5 + CLASSES)).astype(np.float32)
    output[:, :, 4:] = random(CELLS, 4)
    rows = []
    index = 0
    for stride in (8, 16, 32):
        for row in range(HEIGHT // stride):
            for column in range(WIDTH // stride):
                dx, dy, log_width, log_height, objectness, *classes = output[0, index].tolist()
                index += 1
                score, class_id = best_of(objectness * c for c in classes)
                if score > THRESHOLD:
                    size = math.exp(log_width) * stride, math.exp(log_height) * stride
                    rows.append((*corners((column + dx) * stride, (row + dy) * stride, *size), score, class_id))
    assert index == CELLS
    expect("yolox", [output], rows)


def test_yolox_refuses_boxes_that_are_decoded() -> None:
    output = anchors_with_objectness(CELLS)
    with pytest.raises(OutputError, match="the boxes are decoded already, so use `head: yolov5`"):
        head_for("yolox").decode([output], THRESHOLD, CONTEXT)
    assert head_for("yolov5").decode([output], THRESHOLD, CONTEXT).scores.size > 0


def test_end_to_end() -> None:
    output = np.zeros((1, 30, 6), np.float32)
    output[0, :20, :4] = random(20, 4) * 90
    output[0, :20, 4] = random(20, seed=1)
    output[0, :20, 5] = np.arange(20) % CLASSES
    rows = [(*r[:4], r[4], int(r[5])) for r in output[0].tolist() if r[4] > THRESHOLD]
    expect("end_to_end", [output], rows)


QUERIES = 40


def queries(scores: Float32Array) -> tuple[Float32Array, list[Row]]:
    """Random normalised boxes and what comes of them with these scores (queries, classes)."""
    boxes = random(1, QUERIES, 4, seed=3)
    rows = []
    for (x, y, width, height), of_box in zip(boxes[0].tolist(), scores.tolist(), strict=True):
        score, class_id = best_of(of_box)
        if score > THRESHOLD:
            rows.append((*corners(x * WIDTH, y * HEIGHT, width * WIDTH, height * HEIGHT), score, class_id))
    return boxes, rows


@pytest.mark.parametrize("probabilities", [True, False])
@pytest.mark.parametrize("form", ["scores first", "boxes first", "joined"])
def test_rtdetr(form: str, probabilities: bool) -> None:
    logits = np.random.default_rng(2).normal(-1, 2, (1, QUERIES, CLASSES)).astype(np.float32)
    scores = np.array([[1 / (1 + math.exp(-v)) for v in row] for row in logits[0].tolist()], np.float32)
    given = scores[None] if probabilities else logits
    boxes, rows = queries(scores)
    joined = [np.concatenate((boxes, given), axis=2)]
    expect("rtdetr", {"scores first": [given, boxes], "boxes first": [boxes, given], "joined": joined}[form], rows)


@pytest.mark.parametrize("probabilities", [True, False])
@pytest.mark.parametrize("boxes_first", [True, False])
def test_detr(boxes_first: bool, probabilities: bool) -> None:
    logits = np.random.default_rng(4).normal(0, 2, (1, QUERIES, CLASSES + 1)).astype(np.float32)
    scores = np.zeros((QUERIES, CLASSES + 1), np.float32)
    for query, row in enumerate(logits[0].tolist()):
        total = sum(math.exp(v) for v in row)
        scores[query] = [math.exp(v) / total for v in row]
    given = scores[None] if probabilities else logits
    boxes, rows = queries(scores[:, :-1])
    assert any(r.argmax() == CLASSES for r in scores), "some queries see nothing"
    # Three classes and no object are as many columns as a box has.
    if boxes_first or not probabilities:
        expect("detr", [boxes, given] if boxes_first else [given, boxes], rows, NAMED if boxes_first else CONTEXT)
    else:
        with pytest.raises(OutputError, match="one output whose name contains `box`"):
            head_for("detr").decode([given, boxes], THRESHOLD, CONTEXT)


def test_four_classes_are_told_from_boxes_by_name() -> None:
    boxes, rows = queries(random(QUERIES, 4, seed=6))
    scores = random(QUERIES, 4, seed=6)[None]
    with pytest.raises(OutputError, match="one output whose name contains `box`"):
        head_for("rtdetr").decode([scores, boxes], THRESHOLD, HeadContext(WIDTH, HEIGHT, 4))
    expect("rtdetr", [scores, boxes], rows, HeadContext(WIDTH, HEIGHT, 4, ("logits", "pred_boxes")))
    expect("rtdetr", [boxes, scores], rows, HeadContext(WIDTH, HEIGHT, 4, ("PredBoxes", "logits")))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("count", [4, 17])
def test_torchvision_and_ssd(order: tuple[int, int, int], count: int) -> None:
    fractions = random(count, 4, seed=7)
    labels = (np.arange(count) % CLASSES).astype(np.int64)
    scores = np.linspace(0.9, 0.12, count, dtype=np.float32)
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    rows = [
        (b[0] * WIDTH, b[1] * HEIGHT, b[2] * WIDTH, b[3] * HEIGHT, s, int(c))
        for b, s, c in zip(fractions.tolist(), scores.tolist(), labels.tolist(), strict=True)
        if s > THRESHOLD
    ]
    flat: list[AnyArray] = [fractions * size, labels, scores]
    batch: list[AnyArray] = [fractions[None], labels[None].astype(np.int32), scores[None]]
    expect("torchvision", [flat[i] for i in order], rows)
    expect("torchvision", [[flat[0][None], labels[None], scores[None]][i] for i in order], rows)
    expect("ssd", [batch[i] for i in order], rows)


def test_pixels_and_fractions_are_not_mixed_up() -> None:
    labels, scores = np.zeros((1, 5), np.int64), np.full((1, 5), 0.9, np.float32)
    fractions = random(1, 5, 4)
    with pytest.raises(OutputError, match="these are fractions of the input: use `head: ssd`"):
        head_for("torchvision").decode([fractions, labels, scores], THRESHOLD, CONTEXT)
    names = HeadContext(WIDTH, HEIGHT, CLASSES, ("boxes", "scores"))
    for head in ("ssd", "rtdetr", "detr"):
        columns = {"ssd": None, "rtdetr": CLASSES, "detr": CLASSES + 1}[head]
        given = scores if columns is None else np.full((1, 5, columns), 9.0, np.float32) * np.arange(columns, 0, -1)
        outputs = [fractions * 90, labels, given] if columns is None else [fractions * 90, given.astype(np.float32)]
        with pytest.raises(OutputError, match=f"the {head} head expects fractions of the input's width and height"):
            head_for(head).decode(outputs, THRESHOLD, names)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_efficient_nms(order: tuple[int, ...]) -> None:
    room = 20
    boxes, scores = random(1, room, 4) * 90, np.linspace(0.9, 0.2, room, dtype=np.float32)[None]
    classes = np.full((1, room), 99, np.int32)  # what lies behind the count is not defined
    classes[0, :7] = np.arange(7) % CLASSES
    outputs: list[AnyArray] = [np.array([[7]], np.int32), boxes, scores, classes]
    rows = [(*boxes[0, i].tolist(), float(scores[0, i]), int(classes[0, i])) for i in range(7)]
    expect("efficient_nms", [outputs[i] for i in order], rows)
    outputs[0] = np.array([[21]], np.int32)
    with pytest.raises(OutputError, match="gave 21 as the number of its boxes and has room for 20"):
        head_for("efficient_nms").decode(outputs, THRESHOLD, CONTEXT)


def test_efficient_nms_with_room_for_one_box() -> None:
    outputs: list[AnyArray] = [
        np.array([[1]], np.int32),
        np.array([[[1, 2, 3, 4]]], np.float32),
        np.array([[0.9]], np.float32),
        np.array([[2]], np.int32),
    ]
    expect("efficient_nms", outputs, [(1, 2, 3, 4, 0.9, 2)])


@pytest.mark.parametrize("probabilities", [True, False])
def test_classification(probabilities: bool) -> None:
    logits = np.random.default_rng(8).normal(0, 3, 10).astype(np.float32)
    total = sum(math.exp(v) for v in logits.tolist())
    expected = sorted(((math.exp(v) / total, i) for i, v in enumerate(logits.tolist())), reverse=True)[:5]
    given = np.array([math.exp(v) / total for v in logits.tolist()], np.float32) if probabilities else logits
    found = head_for("classification").decode([np.stack((given, given * 0))], 0.2, HeadContext(32, 32, 10))
    assert expected[0][0] > 0.2
    np.testing.assert_allclose(found.scores, [expected[0][0]], rtol=1e-5)
    np.testing.assert_allclose(found.other_scores, [[s for s, _ in expected[1:]]], rtol=1e-5)
    assert (found.class_ids.tolist(), found.other_class_ids.tolist()) == (
        [expected[0][1]],
        [[i for _, i in expected[1:]]],
    )
    nothing = head_for("classification").decode([given[None]], expected[0][0] + 0.01, HeadContext(32, 32, 10))
    assert (len(nothing.scores), nothing.boxes_xyxy.shape) == (0, (0, 4))


def test_two_classes_have_one_other() -> None:
    found = head_for("classification").decode([np.array([[0.25, 0.75]], np.float32)], 0.5, HeadContext(8, 8))
    assert (found.class_ids.tolist(), found.other_class_ids.tolist()) == ([1], [[0]])


# --- what all refuse ------------------------------------------------------------------------------------------

GOOD: dict[str, list[AnyArray]] = {
    "yolov8": [random(1, 4 + CLASSES, 20)],
    "yolov5": [random(1, 20, 5 + CLASSES)],
    "yolox": [random(1, CELLS, 5 + CLASSES)],
    "end_to_end": [np.concatenate((random(1, 9, 5), np.ones((1, 9, 1), np.float32)), axis=2)],
    "rtdetr": [random(1, 9, CLASSES), random(1, 9, 4)],
    "detr": [random(1, 9, CLASSES + 1) * 9, random(1, 9, 4)],
    "torchvision": [random(9, 4) * 90, np.ones(9, np.int64), random(9)],
    "ssd": [random(1, 9, 4), np.ones((1, 9), np.int64), random(1, 9)],
    "efficient_nms": [np.full((1, 1), 9, np.int32), random(1, 9, 4), random(1, 9), np.ones((1, 9), np.int32)],
    "classification": [random(1, CLASSES) * 9],
}


def test_the_examples_are_of_every_head() -> None:
    assert set(GOOD) == set(HEADS)


def test_a_model_file_may_name_every_head() -> None:
    assert tuple(HEADS) == HEAD_NAMES


@pytest.mark.parametrize("head", HEADS)
def test_outputs_of_another_head_are_refused_with_what_came(head: str) -> None:
    head_for(head).decode(GOOD[head], THRESHOLD, CONTEXT)
    for other, outputs in GOOD.items():
        if other == head or {head, other} == {"torchvision", "ssd"} or (head, other) == ("yolov5", "yolox"):
            continue  # these have the same shapes and are told apart by their values or their number
        with pytest.raises(OutputError) as caught:
            head_for(head).decode(outputs, THRESHOLD, CONTEXT)
        shapes = ", ".join(f"{o.dtype}{o.shape}" for o in outputs)
        assert re.match(
            rf"the network gave {re.escape(shapes)}; the {head} head expects .+: correct ", str(caught.value)
        )


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("outputs", [[], [np.zeros((0, 7, 20), np.float32)], [np.zeros((), np.float32)]])
def test_next_to_nothing_is_refused(head: str, outputs: list[AnyArray]) -> None:
    with pytest.raises(OutputError, match=f"the {head} head expects"):
        head_for(head).decode(outputs, THRESHOLD, CONTEXT)


@pytest.mark.parametrize("head", [h for h in HEADS if h not in ("torchvision", "ssd", "efficient_nms")])
def test_other_numbers_of_classes_are_refused(head: str) -> None:
    with pytest.raises(OutputError):
        head_for(head).decode(GOOD[head], THRESHOLD, HeadContext(WIDTH, HEIGHT, 1))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(head: str, value: float) -> None:
    for position, output in enumerate(GOOD[head]):
        if output.dtype.kind == "f":
            damaged = [o.copy() for o in GOOD[head]]
            damaged[position][...] = value
            with pytest.raises(OutputError):
                head_for(head).decode(damaged, THRESHOLD, CONTEXT)


@pytest.mark.parametrize("head", ["yolov5", "yolox"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", [4, 5, 7])
def test_one_score_that_is_not_finite_is_found_in_any_row(head: str, value: float, column: int) -> None:
    for row in (0, 10, -1):
        output = GOOD[head][0].copy()
        # Of an anchor that sees nothing.
        output[0, row, 4] = 0
        output[0, row, column] = value
        with pytest.raises(OutputError, match="the network's scores hold NaN or infinite values"):
            head_for(head).decode([output], THRESHOLD, CONTEXT)


@given(
    rows=st.integers(0, 130),
    classes=st.integers(1, 9),
    threshold=st.sampled_from([0.0, 0.25, 0.5]),
    low=st.sampled_from([0.0, -1.0]),
    high=st.sampled_from([-0.5, 0.3, 1.0, 3.0]),
    dtype=st.sampled_from([np.float32, np.float16]),
)
@settings(max_examples=300, deadline=None)
def test_few_products_give_what_all_give(
    rows: int, classes: int, threshold: float, low: float, high: float, dtype: Any
) -> None:
    """Also for scores that no network gives."""
    prediction = np.random.default_rng(rows).uniform(min(low, high), high, (rows, 5 + classes)).astype(dtype)
    largest = column_maxima(prediction)
    np.testing.assert_array_equal(largest, prediction.max(axis=0, initial=0))
    expected: list[AnyArray] = [*best_classes(prediction[:, 4:5] * prediction[:, 5:], threshold)]
    found: list[AnyArray] = [*best_products(prediction, largest, threshold)]
    for few, all_of_them in zip(found, expected, strict=True):
        np.testing.assert_array_equal(few, all_of_them)
        assert few.dtype == all_of_them.dtype


@pytest.mark.parametrize("head", HEADS)
def test_half_precision_comes_out_as_single(head: str) -> None:
    halves = [o.astype(np.float16) if o.dtype.kind == "f" else o for o in GOOD[head]]
    found = head_for(head).decode(halves, 0.0, CONTEXT)
    full = head_for(head).decode(GOOD[head], 0.0, CONTEXT)
    assert [str(a.dtype) for a in (found.boxes_xyxy, found.scores)] == ["float32", "float32"]
    np.testing.assert_allclose(found.boxes_xyxy, full.boxes_xyxy, rtol=0.02, atol=0.2)


@pytest.mark.parametrize("head", ["end_to_end", "torchvision", "ssd", "efficient_nms"])
@pytest.mark.parametrize("class_id", [-1, CLASSES])
def test_a_class_that_does_not_exist_is_refused(head: str, class_id: int) -> None:
    outputs = [o.copy() for o in GOOD[head]]
    if head == "end_to_end":
        outputs[0][0, :, 4:] = 0.9, class_id
    else:
        outputs[-1 if head == "efficient_nms" else 1][...] = class_id
    with pytest.raises(OutputError, match=f"gave class {class_id} to a box, the model names 3 classes"):
        head_for(head).decode(outputs, THRESHOLD, CONTEXT)


def test_a_class_between_two_is_refused() -> None:
    with pytest.raises(OutputError, match=r"gave class 1\.5 to a box"):
        head_for("end_to_end").decode([np.full((1, 3, 6), 1.5, np.float32)], THRESHOLD, CONTEXT)


shapes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, CELLS]), max_size=4).map(tuple)
kinds = st.sampled_from(["float32", "float16", "float64", "int32", "int64", "uint8", "bool"])


@pytest.mark.parametrize("head", HEADS)
@given(st.lists(st.tuples(shapes, kinds, st.integers(0, 99)), max_size=4), st.sampled_from([0, 1, CLASSES]))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_the_answer_is_boxes_or_an_output_error(
    head: str, described: list[tuple[tuple[int, ...], str, int]], class_count: int
) -> None:
    outputs = [(random(*shape, seed=seed) * seed / 9 - 1).astype(kind) for shape, kind, seed in described]
    context = HeadContext(WIDTH, HEIGHT, class_count)
    stated = [TensorSpec("o", str(o.dtype), tuple(o.shape)) for o in outputs]
    head_for(head).fits(stated, context)
    try:
        found = head_for(head).decode(outputs, THRESHOLD, context)
    except OutputError:
        return
    count = len(found.scores)
    assert found.boxes_xyxy.shape == (count, 4)
    assert found.class_ids.shape == (count,)
    assert [str(a.dtype) for a in (found.boxes_xyxy, found.scores)] == ["float32", "float32"]
    assert (found.scores > THRESHOLD).all()


# --- recognition ----------------------------------------------------------------------------------------------


def specs(*shapes: tuple[int | None, ...], dtypes: str = "") -> list[TensorSpec]:
    kinds = {"f": "float32", "i": "int64", "h": "int32"}
    return [
        TensorSpec(f"o{i}", kinds[kind], shape)
        for i, (shape, kind) in enumerate(zip(shapes, dtypes or "f" * len(shapes), strict=True))
    ]


VGA = 640
RECOGNISED: dict[str, tuple[list[TensorSpec], int, str]] = {
    "YOLOv8 of COCO": (specs((1, 84, 8400)), 80, "yolov8"),
    "YOLOv8 without names": (specs((1, 84, 8400)), 0, "yolov8"),
    "YOLOv8 with more classes than anchors": (specs((1, 9004, 8400)), 9000, "yolov8"),
    "YOLOv8, free batch and anchors": (specs((None, 84, None)), 80, "yolov8"),
    "YOLOv5": (specs((1, 25200, 85)), 80, "yolov5"),
    "YOLOv5 without names": (specs((1, 25200, 85)), 0, "yolov5"),
    "YOLOv5 of one class": (specs((1, 25200, 6)), 1, "yolov5"),
    "YOLOv5 P6": (specs((1, 3 * (6400 + 1600 + 400 + 100), 85)), 80, "yolov5"),
    "YOLOv5 with its grids": (specs((1, 25200, 85), (1, 3, 80, 80, 85), (1, 3, 40, 40, 85)), 80, "yolov5"),
    "YOLOX": (specs((1, 8400, 85)), 80, "yolox"),
    "YOLOX of one class": (specs((1, 8400, 6)), 1, "yolox"),
    "YOLOv10": (specs((1, 300, 6)), 80, "end_to_end"),
    "YOLO26 without names": (specs((None, 300, 6)), 0, "end_to_end"),
    "RT-DETR": (specs((1, 300, 80), (1, 300, 4)), 80, "rtdetr"),
    "RT-DETR, boxes first, all free": (specs((None, None, 4), (None, None, 80)), 80, "rtdetr"),
    "RT-DETR as Ultralytics exports it": (specs((1, 300, 84)), 80, "rtdetr"),
    "DETR": (specs((1, 100, 92), (1, 100, 4)), 91, "detr"),
    "torchvision": (specs((None, 4), (None,), (None,), dtypes="fif"), 91, "torchvision"),
    "torchvision's SSD": (specs((None, 4), (None,), (None,), dtypes="ffi"), 0, "torchvision"),
    "SSD": (specs((1, None, 4), (1, None), (1, None), dtypes="fif"), 81, "ssd"),
    "EfficientNMS": (specs((None, 1), (None, 100, 4), (None, 100), (None, 100), dtypes="hffh"), 80, "efficient_nms"),
    "ResNet": (specs((None, 1000)), 1000, "classification"),
    "ResNet without names": (specs((1, 1000)), 0, "classification"),
}


@pytest.mark.parametrize("case", RECOGNISED)
def test_recognised(case: str) -> None:
    outputs, class_count, head = RECOGNISED[case]
    found = recognise(outputs, HeadContext(VGA, VGA, class_count), {})
    assert found.name == head
    assert str(outputs[0]) in found.reason


REFUSED: dict[str, tuple[list[TensorSpec], int, str]] = {
    "DETR or RT-DETR": (specs((1, 100, 92), (1, 100, 4)), 0, "more than one head: rtdetr .*, detr "),
    "two classes in six columns": (specs((1, 300, 6)), 2, "more than one head: end_to_end .*, rtdetr "),
    "a mask for each box": (specs((1, 116, 8400), (1, 32, 160, 160)), 80, "fit no head"),
    "other classes": (specs((1, 84, 8400)), 79, "fit no head for 640x640 and 79 named classes"),
    "a picture": (specs((1, 3, 640, 640)), 0, "fit no head for 640x640 and no named classes"),
    "nothing": ([], 0, r"outputs \(no outputs\) fit no head"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_recognised(case: str) -> None:
    outputs, class_count, words = REFUSED[case]
    with pytest.raises(ModelFileError, match=words):
        recognise(outputs, HeadContext(VGA, VGA, class_count), {})


@pytest.mark.parametrize(
    ("metadata", "head"),
    [({"end2end": "True"}, "end_to_end"), ({"description": "Ultralytics rtdetr-l model"}, "rtdetr")],
)
def test_metadata_decides_between_heads_that_fit(metadata: dict[str, str], head: str) -> None:
    found = recognise(specs((1, 300, 6)), HeadContext(VGA, VGA, 2), metadata)
    assert found.name == head
    assert "its metadata's" in found.reason
