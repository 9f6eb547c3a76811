"""Draws one handwritten digit, given as a tiny grey bitmap, onto a picture, and says exactly where its ink is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

GLYPH_CELLS = 8
"""Glyph bitmaps are GLYPH_CELLS x GLYPH_CELLS cells, as in the UCI "optdigits" data."""

GLYPH_FULL_INK = 16
"""Value of a cell that is all ink: optdigits counts the black pixels of 4x4 blocks."""

_PADDING_CELLS = 2
_INK_STARTS = 0.30
_INK_FULL = 0.62
_VISIBLE_SHARE = 0.5
_FAINTEST_ALPHA = 1 / 255


@dataclass(frozen=True)
class Stamp:
    """A glyph ready to be blended into a picture.

    alpha: float32 (h, w), 0 = the picture shows, 1 = ink.
    left, top: pixel column and row of the picture where alpha[0, 0] lies (may be negative).
    box_xyxy: float32 (4,), left, top, right, bottom of the visible ink in the picture's pixels; edges, not
        centres, of pixels, so a single pixel at column 3 reaches from 3 to 4.
    """

    alpha: NDArray[np.float32]
    left: int
    top: int
    box_xyxy: NDArray[np.float32]


def upright_ink(glyph: NDArray[np.uint8], ink_height_px: float, aspect: float = 1.0) -> NDArray[np.float32]:
    """Enlarges a glyph bitmap smoothly.

    glyph: uint8 (8, 8), 0 = paper to 16 = ink. ink_height_px: height of the 8 rows in pixels. aspect: width over
    height of a cell. Returns float32 (h, w), the share of ink, with an empty margin of two cells on each side.

    Raises ValueError when the glyph has another shape.
    """
    if glyph.shape != (GLYPH_CELLS, GLYPH_CELLS):
        raise ValueError(f"a glyph of shape {glyph.shape} came, expected {(GLYPH_CELLS, GLYPH_CELLS)}; pass one bitmap")
    cells = GLYPH_CELLS + 2 * _PADDING_CELLS
    padded = np.zeros((cells, cells), np.float32)
    inner = slice(_PADDING_CELLS, _PADDING_CELLS + GLYPH_CELLS)
    padded[inner, inner] = glyph.astype(np.float32) / GLYPH_FULL_INK
    cell_px = ink_height_px / GLYPH_CELLS
    size = (max(1, round(cells * cell_px * aspect)), max(1, round(cells * cell_px)))
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def make_stamp(
    ink: NDArray[np.float32],
    center_xy_px: tuple[float, float],
    *,
    rotation_rad: float = 0.0,
    shear: float = 0.0,
    scale: float = 1.0,
    blur_sigma_px: float = 0.0,
) -> Stamp:
    """Turns, leans, scales and places an ink map of `upright_ink`, then finds the box of what is visible.

    center_xy_px: where the middle of the ink map goes, in the picture's pixels (pixel edges are integers).
    rotation_rad: clockwise as seen. shear: horizontal shift per row. blur_sigma_px: Gaussian blur of the result.

    Raises ValueError when the glyph holds no ink.
    """
    height, width = ink.shape
    cosine, sine = math.cos(rotation_rad) * scale, math.sin(rotation_rad) * scale
    # Rotation after shear: x' = R (x + shear * y).
    linear = np.array([[cosine, cosine * shear - sine], [sine, sine * shear + cosine]])
    reach_x = (abs(linear[0, 0]) * width + abs(linear[0, 1]) * height) / 2
    reach_y = (abs(linear[1, 0]) * width + abs(linear[1, 1]) * height) / 2
    margin = 1 + math.ceil(3 * blur_sigma_px)
    left = math.floor(center_xy_px[0] - reach_x) - margin
    top = math.floor(center_xy_px[1] - reach_y) - margin
    right = math.ceil(center_xy_px[0] + reach_x) + margin
    bottom = math.ceil(center_xy_px[1] + reach_y) + margin
    # cv2 puts integers at pixel centres, this module at pixel edges: hence the halves.
    source = np.array([width / 2 - 0.5, height / 2 - 0.5])
    target = np.array([center_xy_px[0] - left - 0.5, center_xy_px[1] - top - 0.5])
    matrix = np.column_stack([linear, target - linear @ source])
    share = cv2.warpAffine(ink, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    alpha = np.clip((share - _INK_STARTS) / (_INK_FULL - _INK_STARTS), 0.0, 1.0).astype(np.float32)
    if blur_sigma_px > 0:
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), blur_sigma_px), dtype=np.float32)
    peak = float(alpha.max())
    if peak <= 0:
        raise ValueError("the glyph holds no ink: every cell is (nearly) paper; pass a glyph with cells near 16")
    x0, y0, x1, y1 = _extent(alpha, _FAINTEST_ALPHA)
    box = np.array(_extent(alpha, _VISIBLE_SHARE * peak), np.float32) + np.array([left, top, left, top], np.float32)
    return Stamp(alpha=np.ascontiguousarray(alpha[y0:y1, x0:x1]), left=left + x0, top=top + y0, box_xyxy=box)


def blend(image_bgr: NDArray[np.uint8], stamp: Stamp, color_bgr: tuple[float, float, float], opacity: float) -> None:
    """Draws a stamp into image_bgr, uint8 (H, W, 3), in place; what lies outside the picture is cut off.

    color_bgr: 0 to 255 each. opacity: 0 to 1, how much of the picture full ink hides.
    """
    height, width = image_bgr.shape[:2]
    alpha_height, alpha_width = stamp.alpha.shape
    x0, y0 = max(0, stamp.left), max(0, stamp.top)
    x1, y1 = min(width, stamp.left + alpha_width), min(height, stamp.top + alpha_height)
    if x0 >= x1 or y0 >= y1:
        return
    alpha = stamp.alpha[y0 - stamp.top : y1 - stamp.top, x0 - stamp.left : x1 - stamp.left, None]
    alpha = alpha * np.float32(opacity)
    region = image_bgr[y0:y1, x0:x1]
    mixed = region + (np.asarray(color_bgr, np.float32) - region) * alpha
    image_bgr[y0:y1, x0:x1] = (mixed + np.float32(0.5)).astype(np.uint8)


def _extent(alpha: NDArray[np.float32], threshold: float) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom (edges) of the pixels that reach the threshold."""
    left, top, width, height = cv2.boundingRect((alpha >= threshold).view(np.uint8))
    return left, top, left + width, top + height
