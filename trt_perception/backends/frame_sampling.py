"""Where the network's input takes its pixels from in a camera's bytes, as plain tables for the libraries that gather.

With them a device computes what OpenCV computes on the host, to the last bit: cv2.resize with INTER_LINEAR on bytes
(modules/imgproc/src/resize.cpp: weights of 11 bits, half-pixel centres) and cv2.cvtColor from YUV and to grey
(color_yuv.simd.hpp, ITU-R BT.601 with 20 bits; color_rgb.simd.hpp, 15 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.placement import place
from trt_perception.types import Int64Array, Uint8Array

Int32Array: TypeAlias = NDArray[np.int32]

WEIGHT_BITS = 11
# Of the sum along a row OpenCV drops so many bits before it sums along the column, and rounds with what is left.
ROW_SUM_SHIFT, COLUMN_SHIFT, LAST_SHIFT = 4, 16, 2

YUV_SHIFT, GRAY_SHIFT = 20, 15
Y_FACTOR, Y_OFFSET, CHROMA_OFFSET = 1220542, 16, 128
# Of U and V in red, green and blue.
U_FACTORS, V_FACTORS = (0, -409993, 2116026), (1673527, -852492, 0)
# Of red, green and blue in grey.
GRAY_FACTORS = (9798, 19235, 3735)


@dataclass(frozen=True)
class _Plane:
    """One channel: the byte of pixel (x, y) is in row start * height + y // rows, at x // columns * stride + offset."""

    stride: int
    offset: int = 0
    start: int = 0
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True)
class SourceLayout:
    """An encoding. planes: grey; or red, green, blue; or Y, U, V. rows_per_height: as in pixel_layouts.Layout."""

    planes: tuple[_Plane, ...]
    bytes_per_pixel: int
    yuv: bool = False
    rows_per_height: tuple[int, int] = (1, 1)

    def rows(self, height: int) -> int:
        """Rows of `step` bytes that a picture of that height takes."""
        times, over = self.rows_per_height
        return height * times // over

    def view(self, frame: CameraFrame) -> Uint8Array:
        """uint8 (rows, bytes of a row without padding) over the frame's own memory."""
        shape = (self.rows(frame.height), frame.width * self.bytes_per_pixel)
        return np.ndarray(shape, np.uint8, frame.buffer.data, 0, (frame.step, 1))


def _packed(channels: int, *offsets: int) -> SourceLayout:
    return SourceLayout(tuple(_Plane(channels, offset) for offset in offsets), channels)


def _yuv_422(y: int, u: int, v: int) -> SourceLayout:
    return SourceLayout((_Plane(2, y), _Plane(4, u, columns=2), _Plane(4, v, columns=2)), 2, True)


def _yuv_420(u: int, v: int) -> SourceLayout:
    chroma = (_Plane(2, offset, start=1, rows=2, columns=2) for offset in (u, v))
    return SourceLayout((_Plane(1), *chroma), 1, True, (3, 2))


# One line an encoding; the others' bytes become a picture on the host.
SOURCE_LAYOUTS: dict[str, SourceLayout] = {
    "bgr8": _packed(3, 2, 1, 0),
    "rgb8": _packed(3, 0, 1, 2),
    "bgra8": _packed(4, 2, 1, 0),
    "rgba8": _packed(4, 0, 1, 2),
    "mono8": _packed(1, 0),
    "8UC1": _packed(1, 0),
    "8UC3": _packed(3, 2, 1, 0),
    "8UC4": _packed(4, 2, 1, 0),
    "yuv422": _yuv_422(1, 0, 2),
    "uyvy": _yuv_422(1, 0, 2),
    "yuv422_yuy2": _yuv_422(0, 1, 3),
    "yuyv": _yuv_422(0, 1, 3),
    "nv12": _yuv_420(0, 1),
    "nv21": _yuv_420(1, 0),
}


@dataclass(frozen=True, eq=False)
class SamplingTables:
    """From which four bytes each channel of each pixel of the resized part is made, and with which weights.

    needed: int64 (N,), the rows of the frame (SourceLayout.view) that count, in their order: of a picture three times
    as high as the network's input that is every third. rows, columns: int64 (2, P, H) and (2, P, W), place among the
    needed rows and byte in the row, for P planes. row_weights, column_weights: int32 (2, H) and (2, W), each pair
    adding up to 2048 (or to 2047 or 2049, as OpenCV rounds).
    """

    needed: Int64Array
    rows: Int64Array
    columns: Int64Array
    row_weights: Int32Array
    column_weights: Int32Array


def sampling_tables(
    spec: InputSpec, encoding: str, width: int, height: int
) -> tuple[SamplingTables, tuple[int, int, int, int]]:
    """The tables for pictures of one size in pixels, and the part of the network's input that they fill.

    The part is left, top, width, height. encoding: one of SOURCE_LAYOUTS.
    """
    where, _ = place(spec, width, height)
    used_width = min(where.resized_width - where.crop_x, spec.width)
    used_height = min(where.resized_height - where.crop_y, spec.height)
    across, down = slice(where.crop_x, where.crop_x + used_width), slice(where.crop_y, where.crop_y + used_height)
    x, x_weights = (taps[:, across] for taps in _taps(width, where.resized_width, at_edge_from_one=True))
    y, y_weights = (taps[:, down] for taps in _taps(height, where.resized_height, at_edge_from_one=False))
    # A row without weight need not be there.
    y = np.where(y_weights == 0, y[::-1], y)
    planes = SOURCE_LAYOUTS[encoding].planes
    all_rows = np.stack([plane.start * height + y // plane.rows for plane in planes], axis=1)
    needed, rows = np.unique(all_rows, return_inverse=True)
    tables = SamplingTables(
        needed=needed,
        rows=rows.reshape(all_rows.shape),
        columns=np.stack([x // plane.columns * plane.stride + plane.offset for plane in planes], axis=1),
        row_weights=np.ascontiguousarray(y_weights),
        column_weights=np.ascontiguousarray(x_weights),
    )
    return tables, (where.left, where.top, used_width, used_height)


def _taps(source: int, target: int, *, at_edge_from_one: bool) -> tuple[Int64Array, Int32Array]:
    """Two positions and two weights for each of `target` pixels along an axis of `source` pixels, (2, target).

    OpenCV rounds as it does here: positions as float32, weights to the nearest even. Beyond the edge it takes the
    outermost pixel with the whole weight along a row, and twice, with both weights, along a column.
    """
    scale = 1.0 / (target / source)
    position = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    fraction = position - first.astype(np.float32)
    if at_edge_from_one:
        fraction[(first < 0) | (first >= source - 1)] = 0
        first = first.clip(0, source - 1)
    weights = np.rint(np.stack((np.float32(1) - fraction, fraction)) * np.float32(1 << WEIGHT_BITS))
    return np.stack((first, first + 1)).clip(0, source - 1), weights.astype(np.int32)
