"""What this package does not convert itself, cv_bridge may, where a ROS distribution has it; it is never required."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import Image as ImageMessage

from trt_perception.encodings import ENCODINGS
from trt_perception.errors import ImageError
from trt_perception.types import AnyArray, Image

# Its own CvBridgeError is a TypeError; the others come through from NumPy, OpenCV and C++.
_ITS_ERRORS = (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError)

# A cv_bridge that was built for NumPy 1 kills the process that converts with it under NumPy 2, hence a child's.
_TRIAL = """
import cv_bridge
from sensor_msgs.msg import Image
cv_bridge.CvBridge().imgmsg_to_cv2(Image(encoding="rgb8", width=1, height=1, step=3, data=[1, 2, 3]), "bgr8")
"""

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
    if importlib.util.find_spec("cv_bridge") is None:
        return None, "cv_bridge, which may know it, is not installed"
    tried = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=60, check=False)
    if tried.returncode != 0:
        last_line = (tried.stderr.strip().splitlines() or [""])[-1]
        return None, (
            f"cv_bridge, which may know it, does not work with NumPy {np.__version__}: a trial of it ended with "
            f"{tried.returncode}: {last_line}"
        )
    import cv_bridge

    bridge: Any = cv_bridge.CvBridge()
    return bridge.imgmsg_to_cv2, ""
