"""One batch of frames on its way through the device: memory, stream, and CUDA graphs from bytes to boxes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import numpy as np

from trt_perception.backends.cuda_frames.driver import TimingEvent
from trt_perception.backends.cuda_frames.kernels import FrameKernels
from trt_perception.backends.cuda_frames.network import DeviceNetwork, DeviceTensor
from trt_perception.backends.cuda_frames.recording import Graph, GraphRecording
from trt_perception.backends.cuda_frames.session import DeviceMemory, FrameSession, HostMemory
from trt_perception.backends.cuda_frames.shared_work import SharedWork
from trt_perception.backends.cuda_frames.staging import FrameStaging, GeometryOnDevice
from trt_perception.backends.cuda_frames.structs import (
    CANDIDATE_BYTES,
    CAPACITY,
    COUNTER_BYTES,
    RESULT_BYTES,
    TIMES_BYTES,
    ResultView,
    input_struct,
    output_struct,
)
from trt_perception.backends.frame_path import (
    EXPORTED_FOR_ONE,
    FramePathResult,
    FramePlan,
    RawFrameOutputs,
    Survivors,
)
from trt_perception.errors import BackendError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.stage_ranges import stage
from trt_perception.types import AnyArray, StageTimes, TensorSpec

_ALIGNMENT = 256
_GROWTH = 1 << 20
# Runs of one batch in a row, after another one.
_BEFORE_RECORDING_AGAIN = 8


@dataclass(frozen=True, eq=False)
class _Room:
    """Staging memory for frames of up to `capacity` bytes, which the device reads at `address`."""

    capacity: int
    staging: FrameStaging
    address: int
    owned: ExitStack


class FrameSlot:
    """Takes up to `batch` frames: stage(), launch(), and finish(), which waits; all under the current context."""

    def __init__(
        self,
        network: DeviceNetwork,
        session: FrameSession,
        kernels: FrameKernels,
        plan: FramePlan,
        batch: int,
        index: int,
        choice: DeviceMemory,
        *,
        shared: bool,
        shared_work: SharedWork | None,
    ) -> None:
        """index: see DeviceNetwork.bind. shared: the device reads the staged bytes where they lie. shared_work: see
        FrameStaging.

        span_ns: from when to when the last run took, nanoseconds of the device's clock.

        Runs the network on frames of no size and records it, so that what cannot work fails here: BackendError.
        """
        self._batch = batch
        self._session = session
        self._kernels = kernels
        self._shared = shared
        self._shared_work = shared_work
        self._choice = choice
        self._room: _Room | None = None
        # One, or, around a network that launches itself, one before and one after it.
        self._graphs: tuple[Graph, ...] = ()
        self._call_by_call = 0
        self._frames = 0
        self.span_ns = (0, 0)
        with ExitStack() as undo:
            undo.callback(self._forget)
            self._network = network.bind(session, batch, index)
            undo.callback(self._network.close)
            tensor, outputs = self._network.input, self._network.outputs
            _require_one_each(outputs, batch)
            self._input = input_struct(plan.input, tensor.dtype, channels_last=self._network.channels_last)
            chosen = output_struct(plan, [TensorSpec(o.name, o.dtype, o.shape) for o in outputs])
            self.no_choice_reason = chosen if isinstance(chosen, str) else None
            self._chosen = None if isinstance(chosen, str) else chosen
            if self._chosen is not None:
                self._chosen.values = outputs[0].address
            self._raw: list[AnyArray] = []
            self._raw_memory: list[HostMemory] = []
            for output in outputs:
                memory = session.host_memory(int(np.prod(output.shape)) * np.dtype(output.dtype).itemsize)
                undo.callback(memory.close)
                self._raw_memory.append(memory)
                self._raw.append(memory.array.view(output.dtype).reshape(output.shape))
            # The kernels write what is left of the boxes where the host reads it: few bytes, so no copy.
            self._results = session.host_memory(batch * RESULT_BYTES)
            undo.callback(self._results.close)
            self._views = [ResultView(self._results.array[i * RESULT_BYTES :][:RESULT_BYTES]) for i in range(batch)]
            sizes = (batch * CAPACITY * CANDIDATE_BYTES, batch * COUNTER_BYTES, TIMES_BYTES)
            self._candidates, self._counters, self._times = (
                undo.enter_context(closing(session.zeroed(size))) for size in sizes
            )
            self._begun, self._uploaded = (undo.enter_context(closing(TimingEvent())) for _ in range(2))
            self._make_room(_ALIGNMENT)
            self._record()
            self._undo = undo.pop_all()

    def stage(
        self, frames: Sequence[CameraFrame], geometries: Sequence[GeometryOnDevice], addresses: Sequence[int]
    ) -> None:
        """Copies the frames to the device, or to where it reads them; returns while they are on their way.

        addresses: of the frames' buffers.
        """
        needed = max([geometry.staged_bytes for geometry in geometries])
        if self._room is None or self._room.capacity < needed:
            self._make_room(needed)
        if self._network.is_stale:
            # What is queued call by call makes it fresh; where batches take turns it would be recorded in vain.
            self._forget_graphs()
            self._call_by_call = _BEFORE_RECORDING_AGAIN
        elif not self._graphs and not self._call_by_call:
            self._record()
        room = self._room
        assert room is not None
        self._frames = len(frames)
        self._start_ns = time.monotonic_ns()
        stream = self._session.stream_handle
        self._begun.record(stream)
        with stage("upload"):
            room.staging.bring(frames, geometries, addresses)
        self._uploaded.record(stream)

    def launch(self) -> None:
        """Queues everything from the staged bytes to the results on the host."""
        if not self._graphs:
            self._queue_all()
            self._call_by_call -= 1
            return
        before, *after = self._graphs
        before.launch(self._session.stream_handle)
        for graph in after:
            self._network.enqueue()
            graph.launch(self._session.stream_handle)

    def finish(self) -> FramePathResult:
        """Waits for what was launched; raises BackendError when it failed."""
        with stage("wait for the GPU"):
            # What there is to do while the network runs.
            self._uploaded.wait()
            upload_ns = self._begun.nanoseconds_until(self._uploaded)
            self._session.synchronize()
        uploaded, prepared, inferred, chosen, ended = self._views[0].times_ns()
        for view in self._views[1:]:
            *_, own_chosen, own_ended = view.times_ns()
            chosen, ended = max(chosen, own_chosen), max(ended, own_ended)
        self.span_ns = uploaded - upload_ns, ended
        # Where nothing is chosen on the device, raw outputs are copied straight after the network.
        choose_ns = chosen - inferred if self._chosen is not None else 0
        download_ns = ended - inferred - choose_ns
        times = StageTimes(
            preprocess_ns=prepared - uploaded,
            inference_ns=inferred - prepared,
            postprocess_ns=choose_ns,
            inference_start_ns=self._start_ns,
            host_to_device_ns=upload_ns,
            device_to_host_ns=download_ns,
            around_on_device_ns=prepared - uploaded + choose_ns,
        )
        return FramePathResult(tuple([self._found(index) for index in range(self._frames)]), times)

    def settle(self) -> None:
        """Waits for what was launched, whatever came of it."""
        with suppress(BackendError):
            self._session.synchronize()

    def close(self) -> None:
        """Frees everything when the stream is done; a second call does nothing."""
        # After a failed kernel every call fails; what can be freed is freed all the same.
        self.settle()
        self._undo.close()

    def _forget(self) -> None:
        room, self._room = self._room, None
        with ExitStack() as stack:
            if room is not None:
                stack.callback(room.owned.close)
            stack.callback(self._forget_graphs)

    def _forget_graphs(self) -> None:
        graphs, self._graphs = self._graphs, ()
        with ExitStack() as stack:
            for graph in graphs:
                stack.callback(graph.close)

    def _found(self, index: int) -> Survivors | RawFrameOutputs:
        if self._chosen is not None:
            survivors, _ = self._views[index].read()
            if survivors is not None:
                return survivors
            # Rare: what the kernels left to the host comes down now.
            self._download_raw()
            self._session.synchronize()
        return tuple([self._as_delivered(array, index) for array in self._raw])

    def _as_delivered(self, array: AnyArray, index: int) -> AnyArray:
        """One image's, half precision as float32, in which the heads compute; a copy, which outlives close()."""
        # An output without a batch axis stays as it is.
        part = array[index : index + 1] if array.shape[:1] == (self._batch,) else array
        return part.astype(np.float32) if part.dtype == np.float16 else part.copy()

    def _download_raw(self) -> None:
        for memory, output in zip(self._raw_memory, self._network.outputs, strict=True):
            self._session.download(memory.address, output.address, memory.size)

    def _make_room(self, needed: int) -> None:
        """New staging memory with room for `needed` bytes a frame; graphs over the old one go."""
        self._forget()
        capacity = -(-needed // _GROWTH) * _GROWTH if needed > _GROWTH else -(-needed // _ALIGNMENT) * _ALIGNMENT
        with ExitStack() as undo:
            host = self._session.host_memory(capacity * self._batch)
            undo.callback(host.close)
            device = None if self._shared else self._session.zeroed(host.size)
            if device is not None:
                undo.callback(device.close)
            staged = host.device_address if device is None else device.address
            address = None if device is None else device.address
            staging = FrameStaging(self._session, host, address, self._batch, self._shared_work)
            self._room = _Room(capacity, staging, staged, undo.pop_all())

    def _record(self) -> None:
        """The graphs over the staging memory, made with frames of no size in it."""
        self._forget_graphs()
        assert self._room is not None
        self._room.staging.clear()
        # The first run loads kernels lazily and lets libraries take note of sizes, which a recording does not allow.
        self._queue_all()
        self._session.synchronize()
        graphs: list[Graph] = []
        with ExitStack() as undo:
            for work in (self._queue_all,) if self._network.recordable else (self._queue_before, self._queue_after):
                graphs.append(_recorded(self._session.stream_handle, work))
                undo.callback(graphs[-1].close)
            undo.pop_all()
        self._graphs = tuple(graphs)

    def _queue_all(self) -> None:
        self._queue_before()
        self._network.enqueue()
        self._queue_after()

    def _queue_before(self) -> None:
        room = self._room
        assert room is not None
        tensor, times = self._network.input.address, self._times.address
        self._kernels.prepare(self._session, room.address, room.capacity, tensor, times, self._input, self._batch)

    def _queue_after(self) -> None:
        results = self._results.device_address
        if self._chosen is not None:
            memories = (self._choice, self._candidates, self._counters, self._times)
            places = [*(memory.address for memory in memories), results]
            self._kernels.choose(self._session, self._chosen, places, self._batch)
            return
        self._kernels.mark(self._session, self._times.address, 2, results)
        self._download_raw()
        self._kernels.mark(self._session, self._times.address, 4, results)


def _recorded(stream: int, work: Callable[[], None]) -> Graph:
    with GraphRecording(stream) as recording:
        work()
    return recording.graph()


def _require_one_each(outputs: Sequence[DeviceTensor], batch: int) -> None:
    """Raises BackendError, as the plain way refuses such a run, where outputs do not tell one picture from another."""
    strays = [TensorSpec(o.name, o.dtype, o.shape) for o in outputs if batch > 1 and o.shape[:1] != (batch,)]
    if strays:
        raise BackendError(
            f"the network gives {'; '.join(map(str, strays))} for a batch of {batch}; {EXPORTED_FOR_ONE}"
        )


def require_frames(frames: Sequence[CameraFrame], most: int) -> None:
    """Raises BackendError for none or too many."""
    if not 1 <= len(frames) <= most:
        raise BackendError(f"got {len(frames)} frames; this path takes 1 to {most} at a time")
