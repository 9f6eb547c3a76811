"""Camera encodings: the bytes of a message become a picture, without a copy where the memory allows.

Knows the names of sensor_msgs/image_encodings, but nothing of ROS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from trt_perception.errors import ImageError
from trt_perception.types import CHANNELS, ColorOrder, Image


@dataclass(frozen=True)
class Packed:
    """Eight bits a channel, channels side by side."""

    color_order: ColorOrder


# One line an encoding. OpenCV's names for plain arrays mean what OpenCV's own pictures hold: BGR.
ENCODINGS: dict[str, Packed] = {
    "bgr8": Packed("bgr"),
    "rgb8": Packed("rgb"),
    "bgra8": Packed("bgra"),
    "rgba8": Packed("rgba"),
    "mono8": Packed("gray"),
    "8UC1": Packed("gray"),
    "8UC3": Packed("bgr"),
    "8UC4": Packed("bgra"),
}


def decode_image(encoding: str, width: int, height: int, step: int, data: Any) -> Image:
    """A picture over the message's own bytes: nothing is copied, so it lives as long as they do.

    width, height: pixels; step: bytes a row, padding included; data: anything with the buffer protocol.
    Raises ImageError that names the field which is wrong.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise ImageError(f"encoding {encoding!r} is not supported; publish one of {', '.join(ENCODINGS)}")
    if width < 1 or height < 1:
        raise ImageError(f"width x height is {width} x {height}; both must be at least 1")
    channels = CHANNELS[layout.color_order]
    if step < width * channels:
        raise ImageError(f"step is {step}; a row of {width} {encoding} pixels takes {width * channels} bytes")
    # The last row may lack its padding.
    needed = step * (height - 1) + width * channels
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size < needed:
        raise ImageError(f"data has {buffer.size} bytes; {height} rows with step {step} take {needed}")
    strides = (step, channels, 1)
    pixels = np.lib.stride_tricks.as_strided(buffer, (height, width, channels), strides, writeable=False)
    return Image(pixels, layout.color_order)


def decode_compressed(data: Any) -> Image:
    """A picture from JPEG or PNG bytes; raises ImageError when they are neither."""
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size == 0:
        raise ImageError("data is empty; expected a JPEG or PNG picture")
    try:
        pixels = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"data cannot be decoded ({error.err}); expected a JPEG or PNG picture") from error
    if pixels is None:
        raise ImageError(f"data ({buffer.size} bytes) is no JPEG or PNG picture, or a damaged one")
    return Image(np.asarray(pixels, np.uint8), "bgr")
