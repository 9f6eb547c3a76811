"""Drawn boxes: where they are, in which colour, and that the picture itself stays as it was."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.annotate import annotate, place_label, to_bgr
from trt_perception.model_file import InputSpec, ModelFile
from trt_perception.types import CHANNELS, Detections, Image

SIZES = [(320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160)]
MODEL = ModelFile("m", "detect", {}, InputSpec(8, 8), "yolov8", ("cat", "dog"))


def found(*boxes: tuple[float, float, float, float], classes: tuple[int, ...] = ()) -> Detections:
    ids = np.array(classes or [0] * len(boxes), np.int64)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.5, np.float32), ids)


@pytest.mark.parametrize("order", CHANNELS)
def test_the_canvas_is_a_bgr_copy_of_the_picture(order: Any) -> None:
    pixels = np.zeros((60, 80, CHANNELS[order]), np.uint8)
    pixels[...] = 50
    if CHANNELS[order] >= 3:
        pixels[:, :, "rgb".index("r") if order.startswith("rgb") else 2] = 200
    pixels.flags.writeable = False
    canvas = annotate(Image(pixels, order), Detections.none(), MODEL)
    assert canvas.shape == (60, 80, 3)
    assert canvas.dtype == np.uint8
    assert canvas[0, 0].tolist() == ([50, 50, 50] if order == "gray" else [50, 50, 200])
    assert not np.shares_memory(canvas, pixels)


def test_padded_rows() -> None:
    data = np.arange(10 * 40, dtype=np.uint16).astype(np.uint8).reshape(10, 40)
    view = np.lib.stride_tricks.as_strided(data, (10, 12, 3), (40, 3, 1), writeable=False)
    np.testing.assert_array_equal(to_bgr(Image(view, "bgr")), view)
    np.testing.assert_array_equal(to_bgr(Image(view, "rgb")), view[:, :, ::-1])


def test_the_border_of_a_box_is_drawn_and_its_inside_is_not() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    canvas = annotate(Image(pixels, "bgr"), found((200, 150, 400, 350)), MODEL)
    for x, y in ((200, 250), (400, 250), (300, 350), (300, 150)):
        assert canvas[y, x].any(), (x, y)
    assert not canvas[250, 300].any()
    assert not canvas[400:, :].any()
    assert not pixels.any()


def test_the_label_stands_above_the_box_or_inside_at_the_upper_border() -> None:
    blank = Image(np.zeros((480, 640, 3), np.uint8), "bgr")
    assert annotate(blank, found((200, 150, 400, 350)), MODEL)[130:149, 210:230].any()
    at_the_top = annotate(blank, found((200, 0, 400, 200)), MODEL)
    assert at_the_top[3:15, 205:230].any()


def test_each_class_has_its_colour() -> None:
    blank = Image(np.zeros((480, 640, 3), np.uint8), "bgr")
    boxes = [(10.0 + 60 * i, 200.0, 50.0 + 60 * i, 240.0) for i in range(10)]
    canvas = annotate(blank, found(*boxes, classes=tuple(range(10))), MODEL)
    colors = {tuple(canvas[220, int(box[0])].tolist()) for box in boxes}
    assert len(colors) == 10


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (4000, 20)])
def test_any_size_and_boxes_beyond_it(width: int, height: int) -> None:
    image = Image(np.zeros((height, width, 3), np.uint8), "bgr")
    canvas = annotate(image, found((0, 0, width, height), (-5, -5, 1e6, 1e6), classes=(0, 99)), MODEL)
    assert canvas.shape == (height, width, 3)
    assert canvas.any()


@pytest.mark.parametrize("size", SIZES)
def test_a_box_over_the_whole_picture_shows_on_all_four_sides(size: tuple[int, int]) -> None:
    width, height = size
    canvas = annotate(Image(np.zeros((height, width, 3), np.uint8), "bgr"), found((0, 0, width, height)), MODEL)
    for x, y in ((0, height // 2), (width - 1, height // 2), (width // 2, height - 1), (width - 2, 0)):
        assert canvas[y, x].any(), (x, y)


@given(
    size=st.sampled_from([*SIZES, (160, 120), (60, 40), (64, 2000)]),
    across=st.floats(-0.2, 1.2),
    down=st.floats(-0.2, 1.2),
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60),
)
@settings(max_examples=300)
def test_labels_lie_inside_the_picture_and_hold_their_text(
    size: tuple[int, int], across: float, down: float, text: str
) -> None:
    width, height = size
    label = place_label(text, round(across * width), round(down * height), width, height)
    if label is None:
        assert width < 320 or len(text) > 30
        return
    assert 0 <= label.left < label.right <= width
    assert 0 <= label.top < label.bottom <= height
    (text_width, ascent), descent = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, label.scale, label.stroke)
    x, baseline = label.origin
    assert label.left < x and x + text_width < label.right
    assert label.top < baseline - ascent and baseline + descent < label.bottom


@pytest.mark.parametrize("size", SIZES)
def test_labels_can_be_read(size: tuple[int, int]) -> None:
    width, height = size
    label = place_label("traffic light 0.93", width // 3, height // 2, width, height)
    assert label is not None
    (_, ascent), _ = cv2.getTextSize("0", cv2.FONT_HERSHEY_SIMPLEX, label.scale, label.stroke)
    # At least nine pixels as sent, and as much when a viewer shows the picture 960 pixels wide.
    assert ascent * min(1, 960 / width) >= 9
    # And no larger than leaves the picture to be seen.
    assert label.bottom - label.top <= height / 12
    assert label.right - label.left <= width / 2


def test_a_name_too_long_for_the_picture_is_written_smaller() -> None:
    name = "automated guided vehicle with a raised fork 0.93"
    label = place_label(name, 100, 100, 320, 240)
    assert label is not None
    assert 0.3 <= label.scale < 0.4


def test_in_a_picture_too_small_for_letters_boxes_alone_are_drawn() -> None:
    assert place_label("dog 0.50", 4, 4, 20, 16) is None
    canvas = annotate(Image(np.zeros((16, 20, 3), np.uint8), "bgr"), found((4, 4, 12, 12)), MODEL)
    assert canvas[4, 4:12].any()
    assert not canvas[5:11, 5:11].any()


def test_the_better_detections_label_lies_on_top() -> None:
    blank = Image(np.zeros((480, 640, 3), np.uint8), "bgr")
    best = (200.0, 150.0, 400.0, 350.0)
    alone = annotate(blank, found(best), MODEL)
    label = place_label("cat 0.50", 200, 150, 640, 480)
    assert label is not None
    both = annotate(blank, found(best, (205, 145, 420, 340), classes=(0, 1)), MODEL)
    region = (slice(label.top, label.bottom), slice(label.left, label.right))
    np.testing.assert_array_equal(both[region], alone[region])


def test_letters_that_the_font_lacks_do_no_harm() -> None:
    model = ModelFile("m", "detect", {}, InputSpec(8, 8), "yolov8", ("고양이",))
    canvas = annotate(Image(np.zeros((480, 640, 3), np.uint8), "bgr"), found((200, 150, 400, 350)), model)
    assert canvas[130:148, 210:230].any()


@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (3840, 2160)])
def test_a_caption_lies_at_the_bottom_over_all_else(width: int, height: int) -> None:
    image = Image(np.full((height, width, 3), 200, np.uint8), "bgr")
    boxes = found((0, 0, width, height))
    plain = annotate(image, boxes, MODEL)
    canvas = annotate(image, boxes, MODEL, "total 8.7 ms, inference 34 % of 20 ms, borderline")
    changed = (canvas != plain).any(axis=2)
    rows = np.flatnonzero(changed.any(axis=1))
    assert rows[0] > 0.9 * height and rows[-1] >= height - 10
    assert (canvas[rows[-1] - 2, 5] == 32).all()
    assert np.ptp(canvas[rows[0] : rows[-1], : width // 2]) > 100  # letters on it


def test_a_caption_that_could_not_be_read_is_left_out() -> None:
    image = Image(np.full((48, 64, 3), 200, np.uint8), "bgr")
    np.testing.assert_array_equal(annotate(image, Detections.none(), MODEL, "total 8.7 ms, inference"), image.pixels)
