"""The digits and photographs that ship with the package, none of which the demo model was trained on.

data/LICENSE.md names the origin and the licence of each.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from trt_perception.scene_composer import DigitSet, Image, Scene, SceneStyle, compose_scene

NETWORK_SIDE_PX = 320
"""Side of the demo network's square input; held-out sizes are stated as that network sees them."""

_DATA = Path(__file__).resolve().parent / "data"


@functools.lru_cache(maxsize=1)
def heldout_data() -> tuple[DigitSet, tuple[Image, ...]]:
    """Loads the shipped digits and photographs (uint8 (h, w, 3) BGR), none of which was used in training."""
    with np.load(_DATA / "heldout_digits.npz") as archive:
        digits = DigitSet(images=archive["images"], labels=archive["labels"].astype(np.int64))
    paths = sorted(_DATA.glob("heldout_photo_*.jpg"))
    if not paths:
        raise FileNotFoundError(f"no heldout_photo_*.jpg in {_DATA}: the package's data is missing; install it again")
    return digits, tuple(np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), dtype=np.uint8) for path in paths)


def heldout_scenes(count: int, width: int, height: int, seed: int) -> Iterator[Scene]:
    """Yields `count` scenes of width x height pixels from held-out digits and photographs.

    Digits are 14 to 120 pixels high once the longer side is scaled to the network's 320 pixels. Scene i depends on
    seed and i alone, not on count.
    """
    digits, photos = heldout_data()
    style = SceneStyle()
    zoom = max(width, height) / NETWORK_SIDE_PX
    style = replace(style, ink_height_px=(style.ink_height_px[0] * zoom, style.ink_height_px[1] * zoom))
    for index in range(count):
        yield compose_scene(np.random.default_rng([seed, index]), digits, photos, width, height, style)
