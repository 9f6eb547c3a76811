"""Camera frames for the measurements: drawn from a fixed seed, several of each size."""

from __future__ import annotations

import cv2
import numpy as np

from trt_perception.types import Uint8Array

SIZES = ((640, 480), (1280, 720), (1920, 1080))
# Taken in turn, so that no cache holds a frame by chance.
DISTINCT = 4


def camera_frames(width: int, height: int) -> list[Uint8Array]:
    """uint8 (height, width, 3) BGR pictures: shades with some noise, as a camera's."""
    random = np.random.default_rng([width, height])
    frames = []
    for _ in range(DISTINCT):
        coarse = random.integers(0, 256, (9, 16, 3), np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        noisy = smooth.astype(np.int16) + random.integers(-8, 9, smooth.shape, np.int16)
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return frames
