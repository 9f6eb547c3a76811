"""Drawn boxes: where they are, in which colour, and that the picture itself stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trt_perception.annotate import annotate, to_bgr
from trt_perception.model_file import InputSpec, ModelFile
from trt_perception.types import CHANNELS, Detections, Image

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
