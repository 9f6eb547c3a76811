"""The built-in camera: handwritten digits that drift over a photograph, the same at each start."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.glyphs import blend, make_stamp, upright_ink
from trt_perception.heldout import heldout_data
from trt_perception.scene_composer import Image, Scene

MINIMUM_SIDE_PX = 96

_COLUMNS, _ROWS = 3, 2
_PAN_MARGIN_SHARE = 0.06
_NOISE_SIGMA = 3.0
_BLUR_SHARE = 0.01
_BREATHING_SHARE = 0.12
_SWAY_RAD = math.radians(12.0)
# Half the extent of a glyph over its height when it is turned farthest and at its largest:
# (cos 12 deg + sin 12 deg) / 2 * 1.12 = 0.66, and some room for blur and smooth enlargement.
_REACH_SHARE = 0.75


@dataclass(frozen=True)
class _Wave:
    """A smooth swing between -1 and 1 over frame indices."""

    period_frames: float
    phase_rad: float

    def at(self, index: int) -> float:
        return math.sin(2 * math.pi * index / self.period_frames + self.phase_rad)


@dataclass(frozen=True)
class _Actor:
    """One digit: its ink map, colour, home and how it moves (pixels, frames)."""

    ink: NDArray[np.float32]
    class_id: int
    color_bgr: tuple[float, float, float]
    blur_sigma_px: float
    home_xy_px: tuple[float, float]
    swing_xy_px: tuple[float, float]
    wave_x: _Wave
    wave_y: _Wave
    wave_turn: _Wave
    wave_scale: _Wave


class MovingScene:
    """Six digits that move over a slowly panning photograph, as a camera at about 30 Hz would see them.

    frame(i) depends on width, height, seed and i alone, so any index may be asked for, in any order. The digits swing
    each inside a cell of its own and so never overlap. Drawing 640x480 takes about 3 ms on one core.

    width, height: of each picture, in pixels; at least MINIMUM_SIDE_PX. seed: any non-negative integer.

    Raises ValueError when width or height is too small.
    """

    def __init__(self, width: int, height: int, seed: int = 0) -> None:
        if min(width, height) < MINIMUM_SIDE_PX:
            raise ValueError(
                f"a moving scene of {width}x{height} px came, expected at least {MINIMUM_SIDE_PX} px a side; enlarge it"
            )
        self.width = width
        self.height = height
        rng = np.random.default_rng(seed)
        digits, photos = heldout_data()
        self._ground = _cover(photos[int(rng.integers(len(photos)))], width, height)
        self._pan_x = _wave(rng, 500, 900)
        self._pan_y = _wave(rng, 500, 900)
        picks = rng.permutation(len(digits.labels))[: _COLUMNS * _ROWS]
        self._actors = tuple(
            _actor(rng, digits.images[pick], int(digits.labels[pick]), cell, (width, height), self._ground)
            for cell, pick in enumerate(picks)
        )
        noise = rng.normal(0.0, _NOISE_SIGMA, (height + 64, width + 64, 3))
        self._noise = np.rint(noise).astype(np.int8)

    def frame(self, index: int) -> Scene:
        """Draws the picture with this index (0 or more) and its true boxes."""
        image = self._pan(index)
        boxes = np.empty((len(self._actors), 4), np.float32)
        for row, actor in enumerate(self._actors):
            stamp = make_stamp(
                actor.ink,
                (
                    actor.home_xy_px[0] + actor.swing_xy_px[0] * actor.wave_x.at(index),
                    actor.home_xy_px[1] + actor.swing_xy_px[1] * actor.wave_y.at(index),
                ),
                rotation_rad=_SWAY_RAD * actor.wave_turn.at(index),
                scale=1.0 + _BREATHING_SHARE * actor.wave_scale.at(index),
                blur_sigma_px=actor.blur_sigma_px,
            )
            blend(image, stamp, actor.color_bgr, 1.0)
            boxes[row] = stamp.box_xyxy
        # Steps that share no factor with 64 keep consecutive frames' noise unlike each other.
        left, top = index * 23 % 64, index * 41 % 64
        noise = self._noise[top : top + self.height, left : left + self.width]
        noisy = cv2.add(image, noise, dtype=cv2.CV_8U)
        return Scene(
            image_bgr=np.asarray(noisy, dtype=np.uint8),
            boxes_xyxy=boxes,
            class_ids=np.array([actor.class_id for actor in self._actors], np.int64),
        )

    def _pan(self, index: int) -> Image:
        spare_y, spare_x = self._ground.shape[0] - self.height, self._ground.shape[1] - self.width
        shift = np.array(
            [
                [1.0, 0.0, -spare_x * (0.5 + 0.5 * self._pan_x.at(index))],
                [0.0, 1.0, -spare_y * (0.5 + 0.5 * self._pan_y.at(index))],
            ]
        )
        shifted = cv2.warpAffine(
            self._ground, shift, (self.width, self.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(shifted, dtype=np.uint8)


def _cover(photo: Image, width: int, height: int) -> Image:
    """Scales a photograph so that it covers the picture plus a margin to pan in, and cuts off the rest."""
    need_width, need_height = round(width * (1 + _PAN_MARGIN_SHARE)), round(height * (1 + _PAN_MARGIN_SHARE))
    zoom = max(need_width / photo.shape[1], need_height / photo.shape[0])
    size = (max(need_width, round(photo.shape[1] * zoom)), max(need_height, round(photo.shape[0] * zoom)))
    resized = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA)
    left, top = (size[0] - need_width) // 2, (size[1] - need_height) // 2
    return np.ascontiguousarray(resized[top : top + need_height, left : left + need_width], dtype=np.uint8)


def _wave(rng: np.random.Generator, shortest_frames: float, longest_frames: float) -> _Wave:
    return _Wave(period_frames=rng.uniform(shortest_frames, longest_frames), phase_rad=rng.uniform(0, 2 * math.pi))


def _actor(
    rng: np.random.Generator,
    glyph: NDArray[np.uint8],
    class_id: int,
    cell: int,
    size_wh: tuple[int, int],
    ground: Image,
) -> _Actor:
    cell_width, cell_height = size_wh[0] / _COLUMNS, size_wh[1] / _ROWS
    home = ((cell % _COLUMNS + 0.5) * cell_width, (cell // _COLUMNS + 0.5) * cell_height)
    ink_height_px = rng.uniform(0.3, 0.55) * min(cell_width, cell_height)
    reach_px = ink_height_px * _REACH_SHARE
    # White or black ink, whichever stands out more from the photograph around the digit's home.
    x0, y0 = int(home[0] - cell_width / 2), int(home[1] - cell_height / 2)
    around = ground[y0 : y0 + round(cell_height), x0 : x0 + round(cell_width)]
    low, high = (10.0, 50.0) if float(around.mean()) > 127.5 else (205.0, 245.0)
    blue, green, red = rng.uniform(low, high, 3)
    return _Actor(
        ink=upright_ink(glyph, ink_height_px),
        class_id=class_id,
        color_bgr=(blue, green, red),
        blur_sigma_px=_BLUR_SHARE * ink_height_px,
        home_xy_px=home,
        swing_xy_px=(cell_width / 2 - reach_px, cell_height / 2 - reach_px),
        wave_x=_wave(rng, 120, 240),
        wave_y=_wave(rng, 120, 240),
        wave_turn=_wave(rng, 90, 180),
        wave_scale=_wave(rng, 150, 300),
    )
