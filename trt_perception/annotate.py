"""Draws detections on a picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trt_perception.model_file import ModelFile
from trt_perception.types import Detections, Image, Uint8Array

_TO_BGR = {"rgb": cv2.COLOR_RGB2BGR, "rgba": cv2.COLOR_RGBA2BGR, "bgra": cv2.COLOR_BGRA2BGR, "gray": cv2.COLOR_GRAY2BGR}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Hue steps by the golden ratio keep neighbouring classes far apart in colour (H. Weyl's equidistribution).
_GOLDEN_RATIO = 0.6180339887
# Readable from 320 pixels to 4K, also when a viewer shrinks the picture to its window: lines and letters grow with the
# picture's diagonal. Digits are 9 pixels high at a scale of 0.4, 7 at 0.3: a label that fits only smaller is left out.
_DIAGONAL_PER_LINE_PX = 500
_DIAGONAL_PER_SCALE_PX = 1400
_SMALLEST_SCALE = 0.4
_UNREADABLE_SCALE = 0.3
_CAPTION_COLOR = (32, 32, 32)


@dataclass(frozen=True)
class Label:
    """Where a text goes, all in pixels of the picture.

    left, top, right, bottom: its background, right and bottom exclusive. origin: left end of the text's baseline.
    scale: of the font. stroke: width of its lines.
    """

    text: str
    left: int
    top: int
    right: int
    bottom: int
    origin: tuple[int, int]
    scale: float
    stroke: int


def annotate(image: Image, detections: Detections, model: ModelFile, caption: str = "") -> Uint8Array:
    """A copy of the picture, uint8 BGR (height, width, 3), with a box, a name and a score for each detection.

    The best detections' labels lie on top, and a caption at the bottom over all of them, where it could be read.
    Letters outside of ASCII show as question marks, for want of a font.
    """
    canvas = to_bgr(image)
    thickness = _thickness(image.width, image.height)
    # Weaker ones first; and no box over a label.
    rows = range(len(detections) - 1, -1, -1)
    for row in rows:
        left, top, right, bottom = _pixels(detections, row)
        # The box ends where its last pixel ends, also at the picture's border.
        last = (max(right - 1, left), max(bottom - 1, top))
        cv2.rectangle(canvas, (left, top), last, _color(int(detections.class_ids[row])), thickness)
    for row in rows:
        class_id = int(detections.class_ids[row])
        text = f"{model.label(class_id)} {detections.scores[row]:.2f}"
        label = place_label(text, *_pixels(detections, row)[:2], image.width, image.height)
        if label is not None:
            _draw(canvas, label, _color(class_id))
    label = place_label(caption, 0, image.height, image.width, image.height) if caption else None
    if label is not None:
        _draw(canvas, label, _CAPTION_COLOR)
    return canvas


def place_label(text: str, left: int, top: int, width: int, height: int) -> Label | None:
    """A label for a box with that corner in a picture of that size: above the box where there is room, inside it else.

    It lies inside the picture as a whole. None where it could not be read: the picture is too small for it.
    """
    scale = max(_SMALLEST_SCALE, float(np.hypot(width, height)) / _DIAGONAL_PER_SCALE_PX)
    while scale >= _UNREADABLE_SCALE:
        label = _label_at(text, left, top, width, height, scale)
        room = min(width / (label.right - label.left), height / (label.bottom - label.top))
        if room >= 1:
            return label
        # Strokes and margins are whole pixels: a label does not shrink quite in proportion.
        scale *= min(room, 0.97)
    return None


def _label_at(text: str, left: int, top: int, width: int, height: int, scale: float) -> Label:
    stroke = max(1, round(scale * 1.5))
    (text_width, ascent), descent = cv2.getTextSize(text, _FONT, scale, stroke)
    margin = max(1, round(scale * 4))
    label_width, label_height = text_width + 2 * margin, ascent + descent + 2 * margin
    line = _thickness(width, height) // 2
    y = top - line - label_height
    x = min(max(left - line, 0), max(width - label_width, 0))
    y = min(y if y >= 0 else max(top, 0), max(height - label_height, 0))
    origin = (x + margin, y + margin + ascent)
    return Label(text, x, y, x + label_width, y + label_height, origin, scale, stroke)


def _draw(canvas: Uint8Array, label: Label, color: tuple[int, int, int]) -> None:
    last = (label.right - 1, label.bottom - 1)
    cv2.rectangle(canvas, (label.left, label.top), last, color, cv2.FILLED)
    luminance = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2]
    ink = (0, 0, 0) if luminance > 127 else (255, 255, 255)
    cv2.putText(canvas, label.text, label.origin, _FONT, label.scale, ink, label.stroke, cv2.LINE_AA)


def _thickness(width: int, height: int) -> int:
    return max(1, round(float(np.hypot(width, height)) / _DIAGONAL_PER_LINE_PX))


def _pixels(detections: Detections, row: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(float(v)) for v in detections.boxes_xyxy[row])
    return left, top, right, bottom


def to_bgr(image: Image) -> Uint8Array:
    """The picture as a new uint8 BGR array (height, width, 3)."""
    code = _TO_BGR.get(image.color_order)
    pixels = image.pixels.copy() if code is None else cv2.cvtColor(np.ascontiguousarray(image.pixels), code)
    return np.asarray(pixels, np.uint8)


def _color(class_id: int) -> tuple[int, int, int]:
    pixel = np.array([[[(class_id * _GOLDEN_RATIO) % 1.0 * 179, 220, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red
