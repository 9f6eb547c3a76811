"""How the bytes of each kind of encoding lie in a message, and what makes a picture of them.

8-bit packed pixels are used where they lie; everything else goes through OpenCV's own conversions, so that the pixels
equal those of cv_bridge, which does the same. All arithmetic on YUV is OpenCV's: ITU-R BT.601, luma from 16 to 235.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from trt_perception.types import CHANNELS, AnyArray, ColorOrder, Image, Uint8Array

# From 0..65535 to 0..255, as cv_bridge scales.
_SIXTEEN_TO_EIGHT_BITS = 255.0 / 65535.0


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """A picture in its camera's own encoding, as bytes that nobody has touched yet.

    encoding: a key of encodings.ENCODINGS. buffer: uint8 (N,), long enough for that encoding, never written to.
    width, height: of the picture, in pixels. step: bytes from row to row. big_endian: the more significant byte of a
    16-bit sample comes first.
    """

    encoding: str
    buffer: Uint8Array
    width: int
    height: int
    step: int
    big_endian: bool = False

    def view(
        self, rows: int, channels: int, sample_bytes: int = 1, start: int = 0, step: int | None = None
    ) -> AnyArray:
        """uint8 or uint16 (rows, width, channels) over the same memory, read-only, from byte `start` on."""
        strides = (step or self.step, channels * sample_bytes, sample_bytes)
        dtype = np.dtype(np.uint8) if sample_bytes == 1 else np.dtype(">u2" if self.big_endian else "<u2")
        samples = np.ndarray((1,), dtype, self.buffer.data, start)
        return np.lib.stride_tricks.as_strided(samples, (rows, self.width, channels), strides, writeable=False)


Convert: TypeAlias = Callable[[CameraFrame], Image]


@dataclass(frozen=True)
class Layout:
    """One encoding: how much memory it takes, which sizes it can have, and how it becomes a picture.

    bytes_per_pixel: in one row of the message. rows_per_height: rows of `step` bytes for each row of the picture, as a
    fraction of two whole numbers. even_width, even_height: pixels share their colour in pairs. smallest_side: pixels.
    """

    convert: Convert
    bytes_per_pixel: int
    rows_per_height: tuple[int, int] = (1, 1)
    even_width: bool = False
    even_height: bool = False
    smallest_side: int = 1

    def rows(self, height: int) -> int:
        """Rows of `step` bytes in a message whose picture has so many rows."""
        times, over = self.rows_per_height
        return height * times // over


def packed(order: ColorOrder, sample_bytes: int = 1) -> Layout:
    """Channels side by side, of 8 bits (nothing is copied) or of 16, which are scaled to 8."""
    channels = CHANNELS[order]

    def convert(frame: CameraFrame) -> Image:
        pixels = frame.view(frame.height, channels, sample_bytes)
        return Image(pixels if sample_bytes == 1 else _eight_bits(_native(pixels)), order)

    return Layout(convert, channels * sample_bytes)


def yuv_422(code: int) -> Layout:
    """Two pixels in four bytes, in the order that OpenCV's conversion code to BGR names."""

    def convert(frame: CameraFrame) -> Image:
        return _bgr(cv2.cvtColor(frame.view(frame.height, 2), code))

    return Layout(convert, 2, even_width=True)


def yuv_420(code: int) -> Layout:
    """A plane of luma, then one of half the height with a chroma pair for each square of four pixels."""

    def convert(frame: CameraFrame) -> Image:
        return _bgr(cv2.cvtColor(frame.view(frame.height * 3 // 2, 1), code))

    return Layout(convert, 1, rows_per_height=(3, 2), even_width=True, even_height=True)


def yuv_444() -> Layout:
    """A plane of luma, then a chroma pair for each pixel in rows of twice the step.

    OpenCV has no code for it: each pixel becomes a pair of equal ones in UYVY, one of which is kept.
    """

    def convert(frame: CameraFrame) -> Image:
        luma = frame.view(frame.height, 1)
        chroma = frame.view(frame.height, 2, start=frame.height * frame.step, step=2 * frame.step)
        pairs = np.empty((frame.height, frame.width, 4), np.uint8)
        # From Y, U, V to U, Y, V, Y.
        cv2.mixChannels([luma, chroma], [pairs], [1, 0, 0, 1, 2, 2, 0, 3])
        doubled = cv2.cvtColor(pairs.reshape(frame.height, 2 * frame.width, 2), cv2.COLOR_YUV2BGR_UYVY)
        return _bgr(cv2.resize(doubled, (frame.width, frame.height), interpolation=cv2.INTER_NEAREST))

    return Layout(convert, 1, rows_per_height=(3, 1))


def bayer(code: int, sample_bytes: int = 1) -> Layout:
    """One sample a pixel behind a colour mosaic; interpolated bilinearly, at 16 bits before they become 8.

    OpenCV names a pattern by its second row from the second column on: rggb is its BG.
    """

    def convert(frame: CameraFrame) -> Image:
        colored = cv2.cvtColor(_native(frame.view(frame.height, 1, sample_bytes)), code)
        return _bgr(colored if sample_bytes == 1 else _eight_bits(colored))

    # Of less, OpenCV makes a black picture.
    return Layout(convert, sample_bytes, smallest_side=3)


def image_of_array(pixels: AnyArray) -> Image:
    """A picture from what OpenCV decodes: uint8 or uint16 (height, width) or (height, width, 1, 3 or 4), BGR order."""
    three_axes = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
    order: dict[int, ColorOrder] = {1: "gray", 3: "bgr", 4: "bgra"}
    bits_8 = three_axes if three_axes.dtype == np.uint8 else _eight_bits(three_axes)
    return Image(np.asarray(bits_8, np.uint8), order[three_axes.shape[2]])


def _native(samples: AnyArray) -> AnyArray:
    """The same in this machine's byte order and at addresses that OpenCV takes; copied only if need be."""
    if samples.dtype.itemsize == 1:
        return samples
    return np.require(samples.astype(np.uint16, copy=False), requirements=["C", "A"])


def _eight_bits(samples: AnyArray) -> Uint8Array:
    """uint16 (height, width, channels), 0..65535, to uint8, 0..255, to the nearest."""
    return np.asarray(cv2.convertScaleAbs(samples, alpha=_SIXTEEN_TO_EIGHT_BITS), np.uint8).reshape(samples.shape)


def _bgr(pixels: AnyArray) -> Image:
    return Image(np.asarray(pixels, np.uint8), "bgr")
