"""Writes one picture in any camera encoding, from the definitions of the encodings alone.

Nothing here uses the package's table or OpenCV's conversions, so that what is read can be compared to what was meant.
Definitions: sensor_msgs/image_encodings, and the V4L2 descriptions of UYVY, YUYV, NV12, NV21 and NV24 that it names;
YUV after ITU-R BT.601 with luma from 16 to 235 and chroma from 16 to 240.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.types import Uint8Array

# Samples of a picture's rows before padding: (rows, samples), uint8 or uint16.
Rows = NDArray[Any]


@dataclass(frozen=True)
class Encoded:
    """The fields of a sensor_msgs/Image."""

    encoding: str
    width: int
    height: int
    step: int
    data: bytes
    big_endian: bool


def encode(bgr: Uint8Array, encoding: str, padding: int = 0, big_endian: bool = False) -> Encoded:
    """bgr: uint8 (height, width, 3). padding: bytes after each row of luma, and in proportion after others."""
    planes = WRITERS[encoding](bgr)
    step = planes[0].shape[1] * planes[0].itemsize + padding
    data = b"".join(_padded(plane, step, big_endian) for plane in planes)
    return Encoded(encoding, bgr.shape[1], bgr.shape[0], step, data, big_endian)


def _padded(plane: Rows, step: int, big_endian: bool) -> bytes:
    """Rows of `step` bytes, or of twice as many where a plane's rows hold twice as much."""
    ordered = plane.astype(plane.dtype.newbyteorder(">" if big_endian else "<"))
    raw = np.frombuffer(ordered.tobytes(), np.uint8).reshape(plane.shape[0], -1)
    width = step * (2 if raw.shape[1] > step else 1)
    # Random, so that padding which is taken for pixels shows.
    out = np.random.default_rng(1).integers(0, 256, (raw.shape[0], width), np.uint8)
    out[:, : raw.shape[1]] = raw
    return out.tobytes()


def luma(bgr: Uint8Array) -> Uint8Array:
    """(height, width), BT.601's weights, full range, as mono8 means it."""
    weighted = bgr.astype(np.float64) @ np.array([0.114, 0.587, 0.299])
    return np.asarray(np.rint(weighted), np.uint8)


def yuv(bgr: Uint8Array) -> NDArray[np.float64]:
    """(height, width, 3): Y from 16 to 235, U and V from 16 to 240."""
    blue, green, red = np.moveaxis(bgr.astype(np.float64) / 255, 2, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([16 + 219 * y, 128 + 224 * (blue - y) / 1.772, 128 + 224 * (red - y) / 1.402], axis=2)


def _bytes(values: NDArray[np.float64]) -> Uint8Array:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _channels(order: str, bits: int) -> Callable[[Uint8Array], list[Rows]]:
    def write(bgr: Uint8Array) -> list[Rows]:
        full = np.full_like(bgr[:, :, :1], 255)
        by_name = {"b": bgr[:, :, :1], "g": bgr[:, :, 1:2], "r": bgr[:, :, 2:], "a": full, "y": luma(bgr)[:, :, None]}
        pixels = np.concatenate([by_name[name] for name in order], axis=2).reshape(bgr.shape[0], -1)
        return [pixels if bits == 8 else pixels.astype(np.uint16) * 257]

    return write


def _yuv_422(order: str) -> Callable[[Uint8Array], list[Rows]]:
    def write(bgr: Uint8Array) -> list[Rows]:
        planes = yuv(bgr)
        height, width = bgr.shape[:2]
        pairs = planes.reshape(height, width // 2, 2, 3)
        mean = pairs.mean(axis=2)
        by_name = {"0": pairs[:, :, 0, 0], "1": pairs[:, :, 1, 0], "u": mean[:, :, 1], "v": mean[:, :, 2]}
        return [_bytes(np.stack([by_name[name] for name in order], axis=2)).reshape(height, -1)]

    return write


def _semi_planar(square: int, chroma: str) -> Callable[[Uint8Array], list[Rows]]:
    """A plane of luma, then one of chroma pairs, each shared by square x square pixels."""

    def write(bgr: Uint8Array) -> list[Rows]:
        planes = yuv(bgr)
        height, width = bgr.shape[:2]
        mean = planes.reshape(height // square, square, width // square, square, 3).mean(axis=(1, 3))
        pairs = np.stack([mean[:, :, "yuv".index(name)] for name in chroma], axis=2)
        return [_bytes(planes[:, :, 0]), _bytes(pairs).reshape(height // square, -1)]

    return write


def _mosaic(pattern: str, bits: int) -> Callable[[Uint8Array], list[Rows]]:
    """pattern: colours of the first two pixels of the first row, then of the second."""

    def write(bgr: Uint8Array) -> list[Rows]:
        out = np.empty(bgr.shape[:2], np.uint8)
        for position, color in enumerate(pattern):
            y, x = divmod(position, 2)
            out[y::2, x::2] = bgr[y::2, x::2, "bgr".index(color)]
        return [out if bits == 8 else out.astype(np.uint16) * 257]

    return write


WRITERS: dict[str, Callable[[Uint8Array], list[Rows]]] = {
    "bgr8": _channels("bgr", 8),
    "rgb8": _channels("rgb", 8),
    "bgra8": _channels("bgra", 8),
    "rgba8": _channels("rgba", 8),
    "mono8": _channels("y", 8),
    "8UC1": _channels("y", 8),
    "8UC3": _channels("bgr", 8),
    "8UC4": _channels("bgra", 8),
    "bgr16": _channels("bgr", 16),
    "rgb16": _channels("rgb", 16),
    "bgra16": _channels("bgra", 16),
    "rgba16": _channels("rgba", 16),
    "mono16": _channels("y", 16),
    "16UC1": _channels("y", 16),
    "16UC3": _channels("bgr", 16),
    "16UC4": _channels("bgra", 16),
    "yuv422": _yuv_422("u0v1"),
    "uyvy": _yuv_422("u0v1"),
    "yuv422_yuy2": _yuv_422("0u1v"),
    "yuyv": _yuv_422("0u1v"),
    "nv12": _semi_planar(2, "uv"),
    "nv21": _semi_planar(2, "vu"),
    "nv24": _semi_planar(1, "uv"),
    **{
        f"bayer_{pattern}{bits}": _mosaic(pattern, bits)
        for bits in (8, 16)
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
    },
}
GREY = ("mono8", "8UC1", "mono16", "16UC1")
SIXTEEN_BITS = tuple(name for name in WRITERS if "16" in name)
