"""One batch of frames on its way through the device: memory, stream, and one CUDA graph from bytes to boxes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_perception.backends.frame_path import FramePlan, RawFrameOutputs, Survivors
from trt_perception.backends.tensorrt_runtime.cuda_driver import Graph, GraphRecording, TimingEvent
from trt_perception.backends.tensorrt_runtime.cuda_session import Buffer, CudaSession, SharedBuffer
from trt_perception.backends.tensorrt_runtime.engine_runner import EngineRunner
from trt_perception.backends.tensorrt_runtime.frame_kernels import FrameKernels
from trt_perception.backends.tensorrt_runtime.frame_staging import FrameStaging, GeometryOnDevice
from trt_perception.backends.tensorrt_runtime.kernel_structs import (
    CANDIDATE_BYTES,
    CAPACITY,
    COUNTER_BYTES,
    RESULT_BYTES,
    OutputStruct,
    ResultView,
    input_struct,
    output_struct,
)
from trt_perception.errors import BackendError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.stage_ranges import stage
from trt_perception.types import AnyArray, TensorSpec

_ALIGNMENT = 256
_GROWTH = 1 << 20


@dataclass(frozen=True, eq=False)
class _Recorded:
    """Staging memory for frames of up to `capacity` bytes and the graph that reads it."""

    capacity: int
    staging: FrameStaging
    memory: Buffer | SharedBuffer
    graph: Graph

    def close(self) -> None:
        self.graph.close()
        self.memory.close()


@dataclass(frozen=True)
class SlotTimes:
    """What one run took, nanoseconds of the device; start_ns: time.monotonic_ns when it began."""

    start_ns: int
    host_to_device_ns: int
    prepare_ns: int
    inference_ns: int
    choose_ns: int
    device_to_host_ns: int


class FrameSlot:
    """Takes `batch` frames: stage(), launch(), and finish(), which waits. Every call under the current context."""

    def __init__(
        self,
        runner: EngineRunner,
        session: CudaSession,
        kernels: FrameKernels,
        plan: FramePlan,
        batch: int,
        choice: Buffer,
        *,
        shared: bool,
        context: Any = None,
    ) -> None:
        """shared: the device reads the staged bytes where they lie. context: see EngineRunner.bind."""
        self.batch = batch
        self._session = session
        self._kernels = kernels
        self._shared = shared
        self._choice = choice
        self._recorded: _Recorded | None = None
        self._input = input_struct(plan.input, runner.inputs[0].dtype)
        shape = (batch, plan.input.channels, plan.input.height, plan.input.width)
        with ExitStack() as undo:
            self._enqueue, self._source, self._outputs = runner.bind(session, shape, context)
            for buffer in (self._source, *self._outputs):
                undo.callback(buffer.close)
            specs = [
                TensorSpec(o.name, str(b.host.dtype), b.host.shape)
                for o, b in zip(runner.outputs, self._outputs, strict=True)
            ]
            chosen = output_struct(plan, specs)
            self.no_choice_reason = chosen if isinstance(chosen, str) else None
            self._chosen = None if isinstance(chosen, str) else chosen
            if self._chosen is not None:
                self._chosen.values = self._outputs[0].address
            self._results = self._new(undo, batch * RESULT_BYTES)
            self._views = [ResultView(self._results.host[i * RESULT_BYTES :][:RESULT_BYTES]) for i in range(batch)]
            self._candidates = self._new(undo, batch * CAPACITY * CANDIDATE_BYTES)
            self._counters = self._new(undo, batch * COUNTER_BYTES)
            self._events = [TimingEvent() for _ in range(6)]
            for event in self._events:
                undo.callback(event.close)
            self._undo = undo.pop_all()

    @property
    def chosen(self) -> OutputStruct | None:
        """How the device reads the outputs, None where it does not."""
        return self._chosen

    def stage(self, frames: Sequence[CameraFrame], geometries: Sequence[GeometryOnDevice]) -> None:
        """Copies the frames to the device, or to where it reads them; returns while they are on their way."""
        needed = max(geometry.staged_bytes for geometry in geometries)
        if self._recorded is None or self._recorded.capacity < needed:
            self._record(needed)
        recorded = self._recorded
        assert recorded is not None
        self._start_ns = time.monotonic_ns()
        self._events[0].record(self._session.stream_handle)
        with stage("upload"):
            recorded.staging.bring(frames, geometries)

    def launch(self) -> None:
        """Queues everything from the staged bytes to the results on the host."""
        assert self._recorded is not None
        self._recorded.graph.launch(self._session.stream_handle)

    def finish(self) -> tuple[tuple[Survivors | RawFrameOutputs, ...], SlotTimes]:
        """Waits for what was launched; raises BackendError when it failed."""
        with stage("wait for the GPU"):
            self._session.synchronize()
        marks = self._events
        spans = [first.nanoseconds_until(second) for first, second in itertools.pairwise(marks)]
        found = tuple([self._found(index) for index in range(self.batch)])
        return found, SlotTimes(self._start_ns, *spans)

    def nanoseconds_until_end_of(self, later: FrameSlot) -> int:
        """Device time from the beginning of this slot's run to the end of the other's."""
        return self._events[0].nanoseconds_until(later._events[-1])

    def close(self) -> None:
        """Frees everything; the stream is idle. A second call does nothing."""
        if self._recorded is not None:
            self._recorded.close()
            self._recorded = None
        self._undo.close()

    def _new(self, undo: ExitStack, size: int) -> Buffer:
        """Zeroed memory on both sides."""
        buffer = self._session.buffer((size,), "uint8")
        undo.callback(buffer.close)
        buffer.host.fill(0)
        buffer.upload()
        return buffer

    def _found(self, index: int) -> Survivors | RawFrameOutputs:
        if self._chosen is not None:
            survivors, _ = self._views[index].read()
            if survivors is not None:
                return survivors
            # Rare: what the kernels left to the host comes down now.
            for output in self._outputs:
                output.download()
            self._session.synchronize()
        return tuple(_as_delivered(output.host[index : index + 1]) for output in self._outputs)

    def _record(self, needed: int) -> None:
        """New staging memory with room for `needed` bytes a frame, and the graph over it."""
        if self._recorded is not None:
            self._recorded.close()
            self._recorded = None
        capacity = -(-needed // _GROWTH) * _GROWTH if needed > _GROWTH else -(-needed // _ALIGNMENT) * _ALIGNMENT
        size = capacity * self.batch
        memory = self._session.shared_buffer(size) if self._shared else self._session.buffer((size,), "uint8")
        # Frames of no size at all: the trial run below and the recording read headers.
        memory.host.fill(0)
        if isinstance(memory, Buffer):
            memory.upload()
        try:
            # The first run loads kernels lazily, which a recording does not allow.
            self._queue(memory.address, capacity, captured=False)
            self._session.synchronize()
            with GraphRecording(self._session.stream_handle) as recording:
                self._queue(memory.address, capacity, captured=True)
            graph = recording.graph()
        except BaseException:
            memory.close()
            raise
        device = None if self._shared else memory.address
        staging = FrameStaging(self._session, memory.host, device, capacity)
        self._recorded = _Recorded(capacity, staging, memory, graph)

    def _queue(self, staged: int, capacity: int, *, captured: bool) -> None:
        stream = self._session.stream_handle
        _, uploaded, prepared, inferred, chosen, downloaded = self._events
        uploaded.record(stream, captured=captured)
        self._kernels.prepare(self._session, staged, capacity, self._source.address, self._input, self.batch)
        prepared.record(stream, captured=captured)
        self._enqueue()
        inferred.record(stream, captured=captured)
        if self._chosen is not None:
            places = [b.address for b in (self._choice, self._candidates, self._counters, self._results)]
            self._kernels.choose(self._session, self._chosen, places, self.batch)
        chosen.record(stream, captured=captured)
        for buffer in (self._results,) if self._chosen is not None else self._outputs:
            buffer.download()
        downloaded.record(stream, captured=captured)


def _as_delivered(array: AnyArray) -> AnyArray:
    """Half precision as float32, in which the heads compute."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def require_frames(frames: Sequence[CameraFrame], most: int) -> None:
    """Raises BackendError for none or too many."""
    if not 1 <= len(frames) <= most:
        raise BackendError(f"got {len(frames)} frames; this path takes 1 to {most} at a time")
