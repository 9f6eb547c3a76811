"""TensorRT's short way: camera bytes up, kernels around the engine, detections down."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple
from typing import Any

import numpy as np

from trt_perception.backends.frame_path import FramePathResult, FramePlan
from trt_perception.backends.tensorrt_runtime.cuda_driver import is_page_locked
from trt_perception.backends.tensorrt_runtime.cuda_session import Buffer, CudaSession
from trt_perception.backends.tensorrt_runtime.engine_runner import EngineRunner
from trt_perception.backends.tensorrt_runtime.frame_geometry import ENCODINGS
from trt_perception.backends.tensorrt_runtime.frame_kernels import FrameKernels
from trt_perception.backends.tensorrt_runtime.frame_slot import FrameSlot, SlotTimes, require_frames
from trt_perception.backends.tensorrt_runtime.frame_staging import GeometryOnDevice
from trt_perception.backends.tensorrt_runtime.kernel_structs import ChoiceHeader, choice_bytes
from trt_perception.class_choice import ClassChoice
from trt_perception.errors import BackendError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import StageTimes

# Cameras of a robot have few sizes; whoever feeds pictures of every size gets their tables made again.
_KEPT_GEOMETRIES = 32
# Where a model does not name its classes, those with a score of their own go by numbers below this.
_UNNAMED_CLASSES = 4096


class TensorRtFramePath:
    """Frames of an engine with a free batch run as one batch; of one with a batch of 1 they overlap on streams."""

    encodings = ENCODINGS

    def __init__(
        self,
        runner: EngineRunner,
        plan: FramePlan,
        turn: threading.RLock,
        *,
        streams: int,
        shared: bool,
    ) -> None:
        """streams: frames in flight of an engine whose batch is 1. shared: see FrameSlot. Raises BackendError."""
        self._runner = runner
        self.plan = plan
        self._turn = turn
        self._shared = shared
        self._batches = runner.range.largest[0] > 1
        self.max_batch = runner.range.largest[0] if self._batches else streams
        self._choice: ClassChoice | None = None
        self._table_classes = max(plan.class_count, _UNNAMED_CLASSES)
        self._contexts: list[Any] = []
        self._geometries: dict[tuple[str, int, int, int, bool], GeometryOnDevice] = {}
        self._slots: dict[int, FrameSlot] = {}
        self._closing = ExitStack()
        runner.close_first(self.close)
        try:
            with runner.session.current():
                self._kernels = FrameKernels(runner.session)
                self._closing.callback(self._kernels.close)
                size = ctypes.sizeof(ChoiceHeader) + 4 * self._table_classes
                self._choice_memory: Buffer = runner.session.buffer((size,), "uint8")
                self._closing.callback(self._choice_memory.close)
                # Zeros are a choice as well, for the trial runs before the first frame.
                self._choice_memory.host.fill(0)
                self._choice_memory.upload()
                first = self._slot(1)
                self.notes = (first.no_choice_reason,) if first.no_choice_reason else ()
        except BaseException:
            self.close()
            raise

    def run(self, frames: Sequence[CameraFrame], choice: ClassChoice) -> FramePathResult:
        """See FramePath.run."""
        require_frames(frames, self.max_batch)
        with self._turn:
            if self._runner is None:
                raise BackendError("the backend was closed by another thread")
            with self._runner.session.current():
                if choice is not self._choice:
                    self._set_choice(choice)
                geometries = [self._geometry(frame) for frame in frames]
                if self._batches or len(frames) == 1:
                    slot = self._slot(len(frames))
                    slot.stage(frames, geometries)
                    slot.launch()
                    found, times = slot.finish()
                    return FramePathResult(found, _stage_times(times))
                return self._overlapped(frames, geometries)

    def close(self) -> None:
        """Frees everything, before the runner does; a second call does nothing."""
        if self._runner is None:
            return
        with self._turn, self._runner.session.current():
            # After a failed kernel every call fails; what can be freed is freed all the same.
            with suppress(BackendError):
                self._runner.session.synchronize()
            for slot in self._slots.values():
                with suppress(BackendError):
                    slot.close()
            for geometry in self._geometries.values():
                geometry.close()
            self._slots.clear()
            self._geometries.clear()
            self._contexts.clear()
            self._closing.close()
        self._runner = None  # type: ignore[assignment]

    def _overlapped(self, frames: Sequence[CameraFrame], geometries: Sequence[GeometryOnDevice]) -> FramePathResult:
        slots = [self._stream_slot(index) for index in range(len(frames))]
        for slot, frame, geometry in zip(slots, frames, geometries, strict=True):
            slot.stage([frame], [geometry])
            slot.launch()
        finished = [slot.finish() for slot in slots]
        span_ns = max(slots[0].nanoseconds_until_end_of(slot) for slot in slots)
        each = [astuple(times)[1:] for _, times in finished]
        # They overlap: what the device was occupied for is the span, shared among the stages as they took time.
        share = span_ns / max(sum(map(sum, each)), 1)
        shared = [round(sum(stage) * share) for stage in zip(*each, strict=True)]
        times = _stage_times(SlotTimes(finished[0][1].start_ns, *shared))
        return FramePathResult(tuple(found[0] for found, _ in finished), times)

    def _slot(self, batch: int) -> FrameSlot:
        """The slot for that many frames in one batch."""
        if not self._batches:
            return self._stream_slot(0)
        if batch not in self._slots:
            self._slots[batch] = self._new_slot(self._runner.session, batch, None)
        return self._slots[batch]

    def _stream_slot(self, index: int) -> FrameSlot:
        """The slot on the index-th stream; the first uses the engine's own context and stream."""
        if index not in self._slots:
            session: CudaSession = self._runner.session
            context: Any = None
            if index:
                session = session.second_stream()
                self._closing.callback(session.close)
                context = self._runner.further_context()
                self._contexts.append(context)
            self._slots[index] = self._new_slot(session, 1, context)
        return self._slots[index]

    def _new_slot(self, session: CudaSession, batch: int, context: Any) -> FrameSlot:
        parts = (self._runner, session, self._kernels, self.plan, batch, self._choice_memory)
        return FrameSlot(*parts, shared=self._shared, context=context)

    def _set_choice(self, choice: ClassChoice) -> None:
        """Nothing is in flight here, so that every stream sees it."""
        self._choice_memory.host[...] = np.frombuffer(choice_bytes(choice, self._table_classes), np.uint8)
        self._choice_memory.upload()
        self._runner.session.synchronize()
        self._choice = choice

    def _geometry(self, frame: CameraFrame) -> GeometryOnDevice:
        page_locked = not self._shared and is_page_locked(frame.buffer.ctypes.data)
        key = (frame.encoding, frame.width, frame.height, frame.step, page_locked)
        if key not in self._geometries:
            if len(self._geometries) >= _KEPT_GEOMETRIES:
                self._geometries.pop(next(iter(self._geometries))).close()
            self._geometries[key] = GeometryOnDevice(
                self._runner.session, frame, self.plan.input, page_locked=page_locked
            )
        return self._geometries[key]


def _stage_times(times: SlotTimes) -> StageTimes:
    return StageTimes(
        preprocess_ns=times.prepare_ns,
        inference_ns=times.inference_ns,
        postprocess_ns=times.choose_ns,
        inference_start_ns=times.start_ns,
        host_to_device_ns=times.host_to_device_ns,
        device_to_host_ns=times.device_to_host_ns,
        around_on_device_ns=times.prepare_ns + times.choose_ns,
    )
