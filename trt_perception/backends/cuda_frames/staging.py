"""Brings camera frames to the device: from where they lie if that is page-locked memory, else by way of such memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from trt_perception.backends.cuda_frames.driver import RowsUpload
from trt_perception.backends.cuda_frames.geometry import HEADER_BYTES, FrameHeader, StagedRows, frame_geometry
from trt_perception.backends.cuda_frames.session import DeviceMemory, FrameSession, HostMemory
from trt_perception.backends.cuda_frames.shared_work import SharedWork
from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import Uint8Array

# A frame is copied piece by piece, so that the device fetches one while the next is copied. Two threads that share
# a batch copy whole frames: between pieces they would wait for each other, as Python code runs in one thread at a time.
_PIECE_BYTES = 512 << 10
# Waking another thread takes about as long as copying half of this.
_WORTH_A_THREAD_BYTES = 1 << 20
# A frame of no size: the whole input is border.
_NOTHING = np.zeros(HEADER_BYTES, np.uint8)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some rows of a plane. at, size: their staged bytes; header: so many bytes in front of them travel with them."""

    plane: StagedRows
    begin: int
    end: int
    at: int
    size: int
    header: int


@dataclass(frozen=True, eq=False)
class _Direct:
    """A plane that goes up from where it lies. first: its first byte in the frame; at: in the staged bytes; size: of
    bytes that touch; rows: how they are copied where they do not.
    """

    first: int
    at: int
    size: int
    rows: RowsUpload | None


class GeometryOnDevice:
    """A frame geometry whose tables lie on the device."""

    def __init__(self, session: FrameSession, frame: CameraFrame, spec: InputSpec, *, page_locked: bool) -> None:
        """page_locked: for frames that are uploaded from where they lie."""
        geometry = frame_geometry(frame, spec, regular=page_locked)
        self._tables: list[DeviceMemory] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            for table in (geometry.columns, geometry.rows):
                self._tables.append(session.uploaded(table))
            undo.pop_all()
        header = FrameHeader.from_buffer_copy(geometry.header)
        header.columns, header.rows = (memory.address for memory in self._tables)
        header.pixels = HEADER_BYTES
        self.header = np.frombuffer(bytes(header), np.uint8)
        self.page_locked = page_locked
        self.staged_bytes = HEADER_BYTES + geometry.staged_bytes
        copied = () if page_locked else geometry.planes
        self.pieces = tuple(piece for plane in copied for piece in _pieces(plane, _PIECE_BYTES))
        self.whole_planes = tuple(piece for plane in copied for piece in _pieces(plane, self.staged_bytes))
        self.direct = tuple(_direct(plane) for plane in geometry.planes) if page_locked else ()

    def close(self) -> None:
        """Frees the tables; a second call does nothing."""
        for memory in self._tables:
            memory.close()


def _pieces(plane: StagedRows, most_bytes: int) -> list[_Piece]:
    rows = max(most_bytes // plane.row_bytes, 1)
    found = []
    for begin in range(0, plane.taken, rows):
        end = min(begin + rows, plane.taken)
        at = HEADER_BYTES + plane.staged_at + begin * plane.row_bytes
        size = (end - begin) * plane.row_bytes
        found.append(_Piece(plane, begin, end, at, size, HEADER_BYTES if at == HEADER_BYTES else 0))
    return found


def _direct(plane: StagedRows) -> _Direct:
    pattern = plane.pattern
    assert pattern is not None
    touching = plane.step == plane.row_bytes and pattern.every == 1
    return _Direct(
        plane.first + pattern.first * plane.step,
        HEADER_BYTES + plane.staged_at,
        plane.taken * plane.row_bytes,
        None if touching else RowsUpload(plane.step, plane.row_bytes, plane.taken, pattern.group, pattern.every),
    )


class FrameStaging:
    """Copies frames into page-locked memory and on to the device; both sides belong to somebody else.

    host: `capacity` bytes a frame. device: its address there, None where the device reads the host's memory.
    """

    def __init__(
        self, session: FrameSession, host: HostMemory, device: int | None, batch: int, shared_work: SharedWork | None
    ) -> None:
        """shared_work: copies large batches from ordinary memory together with the calling thread."""
        self._session = session
        self._shared_work = shared_work
        self._host = host
        self._device = device
        self._capacity = host.size // batch
        # Whose header lies in each place, _NOTHING's where there is no frame; None: unknown.
        self._headers: list[object] = [None] * batch

    def bring(
        self, frames: Sequence[CameraFrame], geometries: Sequence[GeometryOnDevice], addresses: Sequence[int]
    ) -> None:
        """Returns when the frames' own memory is read, or, of page-locked frames, when their copy is queued.

        addresses: of the frames' buffers. Places without a frame become border.
        """
        together = self._worth_sharing(geometries)
        for index, (frame, geometry, address) in enumerate(zip(frames, geometries, addresses, strict=True)):
            if index not in together:
                self._bring_one(index, frame, geometry, address, geometry.pieces)

        def bring_shared(index: int) -> None:
            geometry = geometries[index]
            # The context is a thread's own.
            with self._session.current():
                self._bring_one(index, frames[index], geometry, addresses[index], geometry.whole_planes)

        if self._shared_work is not None and together:
            self._shared_work.each(bring_shared, together)
        self.clear(len(frames))

    def clear(self, first: int = 0) -> None:
        """Makes the places from that one on border, which names no tables that may be gone."""
        for index in range(first, len(self._headers)):
            if self._headers[index] is not _NOTHING:
                self._send_header(_NOTHING, index * self._capacity)
                self._headers[index] = _NOTHING

    def _worth_sharing(self, geometries: Sequence[GeometryOnDevice]) -> Sequence[int]:
        """Which frames two threads copy; not page-locked ones, whose geometry keeps what is being queued."""
        if self._shared_work is None:
            return ()
        ordinary = [index for index, geometry in enumerate(geometries) if not geometry.page_locked]
        copied = sum([geometries[index].staged_bytes for index in ordinary])
        return ordinary if len(ordinary) > 1 and copied >= _WORTH_A_THREAD_BYTES else ()

    def _bring_one(
        self, index: int, frame: CameraFrame, geometry: GeometryOnDevice, address: int, pieces: Sequence[_Piece]
    ) -> None:
        base = index * self._capacity
        there, self._headers[index] = self._headers[index] is geometry, None
        if self._device is None or not geometry.page_locked:
            if not there:
                self._host.array[base : base + HEADER_BYTES] = geometry.header
            self._copy(frame.buffer, pieces, base)
        else:
            if not there:
                self._send_header(geometry.header, base)
            self._queue_from_where_it_lies(geometry, address, self._device + base)
        self._headers[index] = geometry

    def _send_header(self, header: Uint8Array, base: int) -> None:
        self._host.array[base : base + HEADER_BYTES] = header
        if self._device is not None:
            self._session.upload(self._device + base, self._host.address + base, HEADER_BYTES)

    def _copy(self, source: Uint8Array, pieces: Sequence[_Piece], base: int) -> None:
        host = self._host
        for piece in pieces:
            at = base + piece.at
            piece.plane.copy(source, host.array[at : at + piece.size], piece.begin, piece.end)
            if self._device is not None:
                at -= piece.header
                self._session.upload(self._device + at, host.address + at, piece.header + piece.size)

    def _queue_from_where_it_lies(self, geometry: GeometryOnDevice, address: int, device: int) -> None:
        for plane in geometry.direct:
            if plane.rows is None:
                self._session.upload(device + plane.at, address + plane.first, plane.size)
            else:
                plane.rows.queue(device + plane.at, address + plane.first, self._session.stream_handle)
