"""How a camera frame becomes the input tensor, as the tables that the kernel `prepare` reads; nothing of CUDA here.

The weights are those of OpenCV's INTER_LINEAR on 8-bit pictures (modules/imgproc/src/resize.cpp): 2048ths, taken from
float32 positions; so the kernel's pixels equal cv2.resize's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.placement import Placement, place
from trt_perception.types import AnyArray, Uint8Array

# Names as in frame_kernels.cu.
_PACKED, _UYVY, _YUYV, _NV12, _NV21 = range(5)
_WEIGHT_ONE = 2048
# Leaving rows out pays where it saves at least so much of the copy, since row by row is slower than all at once.
_WORTHWHILE_SHARE = 0.8
# Each row of a group takes a copy of its own; a row of the input lies between two of the picture.
_LARGEST_GROUP = 4


@dataclass(frozen=True)
class _Encoding:
    """layout: see frame_kernels.cu; pixel_bytes: in a row; gray, red_first: of packed ones; chroma_plane: NV12's."""

    layout: int
    pixel_bytes: int
    gray: bool = False
    red_first: bool = False
    chroma_plane: bool = False


_ENCODINGS = {
    "bgr8": _Encoding(_PACKED, 3),
    "rgb8": _Encoding(_PACKED, 3, red_first=True),
    "bgra8": _Encoding(_PACKED, 4),
    "rgba8": _Encoding(_PACKED, 4, red_first=True),
    "mono8": _Encoding(_PACKED, 1, gray=True),
    "8UC1": _Encoding(_PACKED, 1, gray=True),
    "8UC3": _Encoding(_PACKED, 3),
    "8UC4": _Encoding(_PACKED, 4),
    "yuv422": _Encoding(_UYVY, 2),
    "uyvy": _Encoding(_UYVY, 2),
    "yuv422_yuy2": _Encoding(_YUYV, 2),
    "yuyv": _Encoding(_YUYV, 2),
    "nv12": _Encoding(_NV12, 1, chroma_plane=True),
    "nv21": _Encoding(_NV21, 1, chroma_plane=True),
}
ENCODINGS = frozenset(_ENCODINGS)


class FrameHeader(ctypes.Structure):
    """`Frame` of frame_kernels.cu."""

    _fields_ = [
        ("columns", ctypes.c_uint64),
        ("rows", ctypes.c_uint64),
        *((name, ctypes.c_int) for name in ("layout", "pixel_bytes", "gray", "red_first")),
        *((name, ctypes.c_int) for name in ("left", "top", "width", "height")),
        ("pixels", ctypes.c_int),
        ("unused", ctypes.c_int * 3),
    ]


HEADER_BYTES = ctypes.sizeof(FrameHeader)


@dataclass(frozen=True, eq=False)
class StagedRows:
    """Rows of one plane that are staged side by side.

    first: byte of the plane's first row in the frame's buffer; step: bytes from row to row there; row_bytes: of a row
    without padding; count: rows of the plane; rows: numbers of those that are taken, int64, None for all;
    staged_at: byte of the first one in the staged bytes.
    """

    first: int
    step: int
    row_bytes: int
    count: int
    rows: AnyArray | None
    staged_at: int

    @cached_property
    def pattern(self) -> RowPattern | None:
        """Of the taken rows, None where they follow none."""
        return RowPattern(0, 1, 1) if self.rows is None else _pattern(self.rows)

    @property
    def taken(self) -> int:
        """How many rows are staged."""
        return self.count if self.rows is None else len(self.rows)

    def copy(self, source: Uint8Array, target: Uint8Array, begin: int, end: int) -> None:
        """Copies the begin-th to end-th taken row of a frame's buffer to `target`."""
        if self.rows is None and self.step == self.row_bytes:
            target[...] = source[self.first + begin * self.step : self.first + end * self.step]
            return
        plane = np.ndarray((self.count, self.row_bytes), np.uint8, source.data, self.first, (self.step, 1))
        target = target.reshape(end - begin, self.row_bytes)
        if self.rows is None:
            target[...] = plane[begin:end]
        else:
            # Any mode but "raise", which copies twice.
            plane.take(self.rows[begin:end], axis=0, out=target, mode="clip")


@dataclass(frozen=True)
class RowPattern:
    """`group` rows side by side, begun again every `every` rows, the first time at row `first`."""

    first: int
    group: int
    every: int


def _pattern(rows: AnyArray) -> RowPattern | None:
    gaps = np.diff(rows)
    ends = np.flatnonzero(gaps != 1)
    group = int(ends[0]) + 1 if ends.size else rows.size
    if rows.size % group:
        return None
    first = int(rows[0])
    if group == rows.size:
        return RowPattern(first, 1, 1)
    groups = rows.reshape(-1, group)
    every = int(groups[1, 0] - groups[0, 0])
    expected = first + every * np.arange(len(groups))[:, None] + np.arange(group)
    return RowPattern(first, group, every) if group <= _LARGEST_GROUP and (groups == expected).all() else None


@dataclass(frozen=True, eq=False)
class FrameGeometry:
    """Everything about frames of one encoding, size and step.

    planes: what is staged; staged_bytes: their sum. columns: int32 (width, 4), rows: int32 (height, 8), see Column and
    Row in frame_kernels.cu. header: without the tables' addresses and the place of the pixels.
    """

    planes: tuple[StagedRows, ...]
    staged_bytes: int
    columns: AnyArray
    rows: AnyArray
    header: FrameHeader


def frame_geometry(frame: CameraFrame, spec: InputSpec, *, regular: bool = False) -> FrameGeometry:
    """The tables for that frame's encoding, size and step; its encoding is one of ENCODINGS.

    regular: of each plane every row is taken, or rows in a pattern, as one copy by the device can.
    """
    encoding = _ENCODINGS[frame.encoding]
    placement, _ = place(spec, frame.width, frame.height)
    used_width, used_height = _used(placement, spec)
    x0, x1, x_weights = _axis(frame.width, placement.resized_width, placement.crop_x, used_width)
    # OpenCV takes one column alone at the picture's edge; of rows it takes the last one twice.
    x_weights[(x0 < 0) | (x0 >= frame.width - 1)] = _WEIGHT_ONE, 0
    x0, x1 = (np.clip(x, 0, frame.width - 1) for x in (x0, x1))
    y0, y1, y_weights = _axis(frame.height, placement.resized_height, placement.crop_y, used_height)
    y0, y1 = (np.clip(y, 0, frame.height - 1) for y in (y0, y1))
    # A row without weight need not be there.
    y0, y1 = np.where(y_weights[:, 0] == 0, y1, y0), np.where(y_weights[:, 1] == 0, y0, y1)
    row_bytes = frame.width * encoding.pixel_bytes
    luma = _staged(0, frame.step, row_bytes, frame.height, (y0, y1), 0, regular)
    planes = [luma]
    offsets = [_offset_of(luma, y0), _offset_of(luma, y1)]
    if encoding.chroma_plane:
        after = luma.taken * row_bytes
        start, pairs = frame.height * frame.step, (y0 // 2, y1 // 2)
        chroma = _staged(start, frame.step, row_bytes, frame.height // 2, pairs, after, regular)
        planes.append(chroma)
        offsets += [_offset_of(chroma, pairs[0]), _offset_of(chroma, pairs[1])]
    else:
        offsets += [np.zeros_like(y0), np.zeros_like(y0)]
    nothing = np.zeros_like(y0)
    header = FrameHeader(
        layout=encoding.layout,
        pixel_bytes=encoding.pixel_bytes,
        gray=encoding.gray,
        red_first=encoding.red_first,
        left=placement.left,
        top=placement.top,
        width=used_width,
        height=used_height,
    )
    return FrameGeometry(
        planes=tuple(planes),
        staged_bytes=sum(plane.taken * plane.row_bytes for plane in planes),
        columns=np.column_stack((x0, x1, x_weights)).astype(np.int32),
        rows=np.column_stack((*offsets, y_weights, nothing, nothing)).astype(np.int32),
        header=header,
    )


def _used(placement: Placement, spec: InputSpec) -> tuple[int, int]:
    """Width and height of the part of the input that the picture fills."""
    return (
        min(placement.resized_width - placement.crop_x, spec.width),
        min(placement.resized_height - placement.crop_y, spec.height),
    )


def _axis(size: int, resized: int, crop: int, used: int) -> tuple[AnyArray, AnyArray, AnyArray]:
    """For each used place the two pixels between which it lies, not clipped, and their weights (used, 2)."""
    # As OpenCV computes it: not size / resized, which can round otherwise.
    scale = 1.0 / (resized / size)
    position = ((np.arange(crop, crop + used) + 0.5) * scale - 0.5).astype(np.float32)
    whole = np.floor(position)
    part = position - whole
    weights = np.rint(np.stack((np.float32(1) - part, part), axis=1) * np.float32(_WEIGHT_ONE)).astype(np.int64)
    first = whole.astype(np.int64)
    return first, first + 1, weights


def _staged(
    first: int, step: int, row_bytes: int, count: int, needed: Sequence[AnyArray], staged_at: int, regular: bool
) -> StagedRows:
    rows = np.unique(np.concatenate(tuple(needed)))
    staged = StagedRows(first, step, row_bytes, count, rows, staged_at)
    if rows.size > _WORTHWHILE_SHARE * count or (regular and staged.pattern is None):
        return replace(staged, rows=None)
    return staged


def _offset_of(staged: StagedRows, rows: AnyArray) -> AnyArray:
    """Byte at which each of those rows of the plane begins in the staged bytes."""
    index = rows if staged.rows is None else np.searchsorted(staged.rows, rows)
    return staged.staged_at + index * staged.row_bytes
