"""What this package does not convert itself, cv_bridge may, where a ROS distribution has it; it is never required."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import Image as ImageMessage

from trt_perception.encodings import ENCODINGS
from trt_perception.errors import ImageError
from trt_perception.types import AnyArray, Image

# What its Python and C++ parts let through beside their own CvBridgeError: wrong sizes, depths that OpenCV lacks, and
# names that NumPy 2 no longer has.
_ITS_ERRORS = (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError)

_Convert = Callable[..., AnyArray]


def image_by_cv_bridge(message: ImageMessage) -> Image:
    """The picture as cv_bridge converts it to bgr8.

    Raises ImageError, which says what is supported without it, when it is absent or cannot convert that either.
    """
    problem = f"encoding {message.encoding!r} is not supported; publish one of {', '.join(ENCODINGS)}"
    convert, reason = _converter()
    if convert is None:
        raise ImageError(f"{problem} ({reason})")
    try:
        pixels = convert(message, desired_encoding="bgr8")
    except _ITS_ERRORS as error:
        raise ImageError(f"{problem} (cv_bridge says: {type(error).__name__}: {error})") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"{problem} (cv_bridge gave {pixels.dtype} of shape {pixels.shape})")
    return Image(pixels, "bgr")


@functools.lru_cache(maxsize=1)
def _converter() -> tuple[_Convert | None, str]:
    """CvBridge.imgmsg_to_cv2, or the reason why there is none; looked for once."""
    try:
        import cv_bridge
    except (ImportError, AttributeError) as error:  # the latter when it was built for another NumPy
        return None, f"nor is there a cv_bridge that could be asked: {error}"
    bridge: Any = cv_bridge.CvBridge()
    return bridge.imgmsg_to_cv2, ""
