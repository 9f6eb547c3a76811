"""Draws detections on a picture."""

from __future__ import annotations

import cv2
import numpy as np

from trt_perception.model_file import ModelFile
from trt_perception.types import Detections, Image, Uint8Array

_TO_BGR = {"rgb": cv2.COLOR_RGB2BGR, "rgba": cv2.COLOR_RGBA2BGR, "bgra": cv2.COLOR_BGRA2BGR, "gray": cv2.COLOR_GRAY2BGR}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Hue steps by the golden ratio keep neighbouring classes far apart in colour (H. Weyl's equidistribution).
_GOLDEN_RATIO = 0.6180339887


def annotate(image: Image, detections: Detections, model: ModelFile) -> Uint8Array:
    """A copy of the picture, uint8 BGR (height, width, 3), with a box, a name and a score for each detection."""
    canvas = to_bgr(image)
    # Readable from 320 pixels to 4K: everything grows with the picture's diagonal.
    diagonal = float(np.hypot(image.width, image.height))
    thickness = max(1, round(diagonal / 500))
    font_scale = max(0.4, diagonal / 1400)
    for box, score, class_id in zip(detections.boxes_xyxy, detections.scores, detections.class_ids, strict=True):
        left, top, right, bottom = (round(float(v)) for v in box)
        color = _color(int(class_id))
        cv2.rectangle(canvas, (left, top), (right, bottom), color, thickness)
        _label(canvas, f"{model.label(int(class_id))} {score:.2f}", left, top, color, font_scale)
    return canvas


def to_bgr(image: Image) -> Uint8Array:
    """The picture as a new uint8 BGR array (height, width, 3)."""
    code = _TO_BGR.get(image.color_order)
    pixels = image.pixels.copy() if code is None else cv2.cvtColor(np.ascontiguousarray(image.pixels), code)
    return np.asarray(pixels, np.uint8)


def _label(canvas: Uint8Array, text: str, left: int, top: int, color: tuple[int, int, int], scale: float) -> None:
    stroke = max(1, round(scale * 1.5))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, stroke)
    box_height = height + baseline + 2
    # Above the box where there is room, inside it at the picture's upper border.
    y = top - box_height if top >= box_height else top
    x = int(np.clip(left, 0, max(canvas.shape[1] - width, 0)))
    cv2.rectangle(canvas, (x, y), (x + width, y + box_height), color, cv2.FILLED)
    luminance = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2]
    ink = (0, 0, 0) if luminance > 127 else (255, 255, 255)
    cv2.putText(canvas, text, (x, y + height + 1), _FONT, scale, ink, stroke, cv2.LINE_AA)


def _color(class_id: int) -> tuple[int, int, int]:
    pixel = np.array([[[(class_id * _GOLDEN_RATIO) % 1.0 * 179, 220, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red
