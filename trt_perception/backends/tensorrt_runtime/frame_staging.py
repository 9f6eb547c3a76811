"""Brings camera frames to the device: from where they lie if that is page-locked memory, else by way of such memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from trt_perception.backends.tensorrt_runtime.cuda_driver import upload, upload_rows
from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession
from trt_perception.backends.tensorrt_runtime.frame_geometry import (
    HEADER_BYTES,
    FrameHeader,
    StagedRows,
    frame_geometry,
)
from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import AnyArray, Uint8Array

# A frame is copied piece by piece, so that the device fetches one while the next is copied.
_PIECE_BYTES = 512 << 10


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some rows of a plane. rows: their numbers, None for begin to end; at, size: their staged bytes; header: so many
    bytes in front of them travel with them.
    """

    plane: StagedRows
    begin: int
    end: int
    rows: AnyArray | None
    at: int
    size: int
    header: int


class GeometryOnDevice:
    """A frame geometry whose tables lie on the device."""

    def __init__(self, session: CudaSession, frame: CameraFrame, spec: InputSpec, *, page_locked: bool) -> None:
        """page_locked: for frames that are uploaded from where they lie."""
        geometry = frame_geometry(frame, spec, regular=page_locked)
        tables = (geometry.columns, geometry.rows)
        with ExitStack() as undo:
            self._tables = [session.buffer(table.shape, "int32") for table in tables]
            for buffer, table in zip(self._tables, tables, strict=True):
                undo.callback(buffer.close)
                buffer.host[...] = table
                buffer.upload()
            session.synchronize()
            undo.pop_all()
        header = FrameHeader.from_buffer_copy(geometry.header)
        header.columns, header.rows = (buffer.address for buffer in self._tables)
        header.pixels = HEADER_BYTES
        self.header = np.frombuffer(bytes(header), np.uint8)
        self.page_locked = page_locked
        self.planes = geometry.planes
        self.staged_bytes = HEADER_BYTES + geometry.staged_bytes
        self.pieces = [piece for plane in geometry.planes for piece in _pieces(plane)]

    def close(self) -> None:
        """Frees the tables; a second call does nothing."""
        for buffer in self._tables:
            buffer.close()


def _pieces(plane: StagedRows) -> list[_Piece]:
    rows = max(_PIECE_BYTES // plane.row_bytes, 1)
    found = []
    for begin in range(0, plane.taken, rows):
        end = min(begin + rows, plane.taken)
        at = HEADER_BYTES + plane.staged_at + begin * plane.row_bytes
        numbers = None if plane.rows is None else plane.rows[begin:end]
        found.append(
            _Piece(
                plane,
                begin,
                end,
                numbers,
                at,
                (end - begin) * plane.row_bytes,
                HEADER_BYTES if at == HEADER_BYTES else 0,
            )
        )
    return found


class FrameStaging:
    """Copies frames into page-locked memory and on to the device; the device's side is somebody else's.

    host: uint8, `capacity` bytes a frame. device: its address there, None where the device reads the host's memory.
    """

    def __init__(self, session: CudaSession, host: Uint8Array, device: int | None, capacity: int) -> None:
        self._stream = session.stream_handle
        self._host = host
        self._host_address = int(host.ctypes.data)
        self._device = device
        self._capacity = capacity

    def bring(self, frames: Sequence[CameraFrame], geometries: Sequence[GeometryOnDevice]) -> None:
        """Returns when the frames' own memory is read, or, of page-locked frames, when their copy is queued."""
        for index, (frame, geometry) in enumerate(zip(frames, geometries, strict=True)):
            base = index * self._capacity
            self._host[base : base + HEADER_BYTES] = geometry.header
            if self._device is not None and geometry.page_locked:
                upload(self._device + base, self._host_address + base, HEADER_BYTES, self._stream)
                self._queue_from_where_it_lies(frame, geometry, self._device + base)
            else:
                self._copy(frame.buffer, geometry, base)

    def _copy(self, source: Uint8Array, geometry: GeometryOnDevice, base: int) -> None:
        for piece in geometry.pieces:
            at = base + piece.at
            piece.plane.copy(source, self._host[at : at + piece.size], piece.begin, piece.end, piece.rows)
            if self._device is not None:
                at -= piece.header
                upload(self._device + at, self._host_address + at, piece.header + piece.size, self._stream)

    def _queue_from_where_it_lies(self, frame: CameraFrame, geometry: GeometryOnDevice, device: int) -> None:
        address = int(frame.buffer.ctypes.data)
        for plane in geometry.planes:
            target = device + HEADER_BYTES + plane.staged_at
            first = 0 if plane.rows is None else int(plane.rows[0])
            source, step = address + plane.first + first * plane.step, plane.step * (plane.every or 1)
            if step == plane.row_bytes:
                upload(target, source, plane.taken * plane.row_bytes, self._stream)
            else:
                upload_rows(target, source, step, plane.row_bytes, plane.taken, self._stream)
