"""Frames and input specifications that every short way is tried with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trt_perception.encodings import ENCODINGS, camera_frame
from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import AnyArray

LETTERBOX = InputSpec(160, 128)
SPECS = {
    "letterbox": LETTERBOX,
    "bgr": replace(LETTERBOX, color_order="bgr", pad_value=7),
    "grey": replace(LETTERBOX, color_order="gray"),
    "stretch": replace(LETTERBOX, resize="stretch"),
    "crop": InputSpec(96, 96, resize="crop", short_side=110),
    "normalised": replace(LETTERBOX, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "0 to 255": replace(LETTERBOX, scale=1.0),
}
# Smaller and larger than the input, twice its size, its size, and lying the other way.
SIZES = ((64, 48), (320, 256), (160, 128), (234, 98), (90, 302))


def assert_same_input(found: AnyArray, expected: AnyArray, spec: InputSpec) -> None:
    """To the last bit; with a mean, OpenCV rounds the product and the sum at once, and here each is rounded."""
    tolerance = 1e-6 if any(spec.mean) else 0.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def random_frame(encoding: str, width: int, height: int, seed: int = 0, padding: int = 0) -> CameraFrame:
    """Noise, where a pixel that is taken from the wrong place shows at once."""
    layout = ENCODINGS[encoding]
    step = width * layout.bytes_per_pixel + padding
    data = np.random.default_rng(seed).integers(0, 256, step * layout.rows(height) - padding, np.uint8)
    return camera_frame(encoding, width, height, step, data)
