"""The short way on an NVIDIA GPU: camera bytes up, kernels around the network of any library, detections down."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress

import numpy as np

from trt_perception.backends.cuda_frames.driver import is_page_locked
from trt_perception.backends.cuda_frames.geometry import ENCODINGS
from trt_perception.backends.cuda_frames.kernels import FrameKernels
from trt_perception.backends.cuda_frames.network import DeviceNetwork
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.cuda_frames.shared_work import SharedWork
from trt_perception.backends.cuda_frames.slot import FrameSlot, require_frames
from trt_perception.backends.cuda_frames.staging import GeometryOnDevice
from trt_perception.backends.cuda_frames.structs import TYPES, ChoiceHeader, choice_bytes
from trt_perception.backends.frame_path import FramePathResult, FramePlan
from trt_perception.class_choice import ClassChoice
from trt_perception.errors import BackendError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import StageTimes

# Cameras of a robot have few sizes; whoever feeds pictures of every size gets their tables made again.
_KEPT_GEOMETRIES = 32
# Where a model does not name its classes, those with a score of their own go by numbers below this.
_UNNAMED_CLASSES = 4096


class CudaFramePath:
    """Frames of a network that takes several run as one batch; of one that takes one they overlap on streams."""

    encodings = ENCODINGS

    def __init__(
        self,
        network: DeviceNetwork,
        session: FrameSession,
        plan: FramePlan,
        turn: threading.RLock,
        *,
        tell: Callable[[str], None],
        streams: int = 1,
        shared: bool = False,
    ) -> None:
        """session: whose stream the network runs on; the caller closes it, after this. turn: taken by whoever uses
        the network. tell: takes what is worth a note, now or when another number of frames comes. streams:
        frames in flight of a network that takes one. shared: see FrameSlot.

        Raises BackendError where something of it does not work here.
        """
        if network.input_dtype not in TYPES:
            raise BackendError(f"the network takes {network.input_dtype}, the kernels write {', '.join(TYPES)}")
        self._network = network
        self._session = session
        self.plan = plan
        self._turn = turn
        self._shared = shared
        self._tell = tell
        self._told = False
        self._least_batch, largest = network.batches
        self._batches = largest > 1
        self.max_batch = largest if self._batches else streams
        self._choice: ClassChoice | None = None
        self._table_classes = max(plan.class_count, _UNNAMED_CLASSES)
        self._geometries: dict[tuple[str, int, int, int, bool], GeometryOnDevice] = {}
        self._slots: dict[int, FrameSlot] = {}
        self._further_sessions: dict[int, FrameSession] = {}
        self._closed = False
        self._closing = ExitStack()
        self._shared_work = SharedWork()
        try:
            with turn, session.current():
                self._kernels = FrameKernels(session)
                self._closing.callback(self._kernels.close)
                # Zeros are a choice as well, for the trial runs before the first frame.
                self._choice_size = ctypes.sizeof(ChoiceHeader) + 4 * self._table_classes
                self._choice_on_host = session.host_memory(self._choice_size)
                self._closing.callback(self._choice_on_host.close)
                self._choice_memory = session.zeroed(self._choice_size)
                self._closing.callback(self._choice_memory.close)
                if reason := self._slot(1).no_choice_reason:
                    tell(reason)
        except BaseException:
            self.close()
            raise

    def run(self, frames: Sequence[CameraFrame], choice: ClassChoice) -> FramePathResult:
        """See FramePath.run."""
        require_frames(frames, self.max_batch)
        with self._turn:
            if self._closed:
                raise BackendError("the backend was closed by another thread")
            with self._session.current():
                if choice is not self._choice:
                    self._set_choice(choice)
                addresses = [int(frame.buffer.ctypes.data) for frame in frames]
                geometries = [self._geometry(*pair) for pair in zip(frames, addresses, strict=True)]
                if not self._batches and len(frames) > 1:
                    return self._overlapped(frames, geometries, addresses)
                slot = self._slot(len(frames))
                slot.stage(frames, geometries, addresses)
                slot.launch()
                return slot.finish()

    def close(self) -> None:
        """Frees everything, before the network is; a second call does nothing."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            # Whatever became of a run, nobody copies into memory that goes now.
            self._shared_work.close()
            with self._session.current():
                # As in FrameSlot.close.
                for slot in self._slots.values():
                    with suppress(BackendError):
                        slot.close()
                for geometry in self._geometries.values():
                    with suppress(BackendError):
                        geometry.close()
                self._slots.clear()
                self._geometries.clear()
                with suppress(BackendError):
                    self._closing.close()

    def _overlapped(
        self, frames: Sequence[CameraFrame], geometries: Sequence[GeometryOnDevice], addresses: Sequence[int]
    ) -> FramePathResult:
        slots = [self._stream_slot(index) for index in range(len(frames))]
        try:
            for slot, frame, geometry, address in zip(slots, frames, geometries, addresses, strict=True):
                slot.stage([frame], [geometry], [address])
                slot.launch()
            finished = [slot.finish() for slot in slots]
        except BaseException:
            # The next frames may not meet one of these on its way.
            for slot in slots:
                slot.settle()
            raise
        span_ns = max(slot.span_ns[1] for slot in slots) - min(slot.span_ns[0] for slot in slots)
        return FramePathResult(
            tuple(one.found[0] for one in finished), _shared_times([one.times for one in finished], span_ns)
        )

    def _slot(self, frames: int) -> FrameSlot:
        """The slot for that many frames in one run."""
        if not self._batches:
            return self._stream_slot(0)
        batch = max(frames, self._least_batch)
        if batch not in self._slots:
            self._slots[batch] = self._new_slot(self._session, batch, 0)
        return self._slots[batch]

    def _stream_slot(self, index: int) -> FrameSlot:
        """The slot on the index-th stream; the first uses the given session."""
        if index not in self._slots:
            session = self._session if index == 0 else self._further_sessions.get(index)
            if session is None:
                session = self._further_sessions[index] = self._session.second_stream()
                self._closing.callback(session.close)
            self._slots[index] = self._new_slot(session, 1, index)
        return self._slots[index]

    def _new_slot(self, session: FrameSession, batch: int, index: int) -> FrameSlot:
        parts = (self._network, session, self._kernels, self.plan, batch, index, self._choice_memory)
        shared_work = self._shared_work if batch > 1 else None
        slot = FrameSlot(*parts, shared=self._shared, shared_work=shared_work)
        reason = self._network.no_graph_reason
        if reason is not None and not self._told:
            self._told = True
            which = " for further batches" if self._slots else ""
            self._tell(f"no CUDA graph{which}: {reason}")
        return slot

    def _set_choice(self, choice: ClassChoice) -> None:
        """Nothing is in flight here, so that every stream sees it."""
        host = self._choice_on_host
        host.array[...] = np.frombuffer(choice_bytes(choice, self._table_classes), np.uint8)
        self._session.upload(self._choice_memory.address, host.address, host.size)
        self._session.synchronize()
        self._choice = choice

    def _geometry(self, frame: CameraFrame, address: int) -> GeometryOnDevice:
        page_locked = not self._shared and is_page_locked(address)
        key = (frame.encoding, frame.width, frame.height, frame.step, page_locked)
        geometry = self._geometries.pop(key, None)
        if geometry is None:
            if len(self._geometries) >= max(_KEPT_GEOMETRIES, self.max_batch):
                self._geometries.pop(next(iter(self._geometries))).close()
            geometry = GeometryOnDevice(self._session, frame, self.plan.input, page_locked=page_locked)
        # To the end, so that the first one is that which was not used for longest: no frame of this batch needs it.
        self._geometries[key] = geometry
        return geometry


def _shared_times(each: Sequence[StageTimes], span_ns: int) -> StageTimes:
    """Of frames that overlap: the device was occupied for the span, shared among the stages as they took time."""
    share = span_ns / max(sum(times.busy_ns for times in each), 1)

    def shared_ns(parts: Iterable[int | None]) -> int:
        return round(share * sum(part or 0 for part in parts))

    prepare_ns, choose_ns = shared_ns(t.preprocess_ns for t in each), shared_ns(t.postprocess_ns for t in each)
    return StageTimes(
        preprocess_ns=prepare_ns,
        inference_ns=shared_ns(t.inference_ns for t in each),
        postprocess_ns=choose_ns,
        inference_start_ns=each[0].inference_start_ns,
        host_to_device_ns=shared_ns(t.host_to_device_ns for t in each),
        device_to_host_ns=shared_ns(t.device_to_host_ns for t in each),
        around_on_device_ns=prepare_ns + choose_ns,
    )
