"""Sessions as the short way wants its network: tensors at addresses that stay, on a stream that is somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from trt_perception.backends.cuda_frames.driver import Graph, GraphRecording
from trt_perception.backends.cuda_frames.network import DeviceTensor
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.onnxruntime_runtime.library import first_line, spec_of
from trt_perception.backends.onnxruntime_runtime.sessions import Session, Sessions
from trt_perception.errors import BackendError
from trt_perception.model_file import InputSpec
from trt_perception.types import AnyArray, TensorSpec

# Each size of batch has memory and a graph of its own.
_LARGEST_BATCH = 8
# ONNX Runtime allocates memory in the first two runs, which a recording does not allow.
_TRIAL_RUNS = 3
# A recorded run computes what a plain one does, but for sums in whatever order atomic additions come.
_RELATIVE, _OF_LARGEST = 1e-3, 1e-6


class OnnxRuntimeNetwork:
    """A DeviceNetwork (see cuda_frames/network.py).

    Its sessions are its own: a session that was recorded is used for nothing else (see Sessions.run_options).
    """

    def __init__(self, sessions: Sessions, like: Session, picture: InputSpec) -> None:
        """like: an opened session of the same file, which is only looked at."""
        self._sessions = sessions
        (entry,) = like.get_inputs()
        first = entry.shape[0]
        self.input_dtype = spec_of(entry).dtype
        self._picture = (picture.channels, picture.height, picture.width)
        # Where a size of the outputs does not follow from the batch, it may from the input's whole shape.
        follows = all(_shape(output, first, 1) is not None for output in like.get_outputs())
        sizes = zip(entry.shape, (1, *self._picture), strict=True)
        self._axes = {} if follows else {name: size for name, size in sizes if isinstance(name, str)}
        self._first_axis = None if self._axes else first
        free = (1, _LARGEST_BATCH) if follows else (1, 1)
        self.batches: tuple[int, int] = (first, first) if isinstance(first, int) else free
        self._first: Session | None = None
        self._first_is_recorded = False

    def bind(self, session: FrameSession, batch: int, index: int) -> BoundTensors:
        """See DeviceNetwork.bind; a further stream takes a further session, with weights of its own."""
        runner = self._first if index == 0 else None
        if runner is None:
            runner = self._sessions.open(session.stream_handle, self._axes)
            if index == 0:
                self._first = runner
        (entry,) = runner.get_inputs()
        specs = [TensorSpec(entry.name, self.input_dtype, (batch, *self._picture))]
        for output in runner.get_outputs():
            shape = _shape(output, self._first_axis, batch)
            if shape is None:
                raise BackendError(
                    f"the network tells only while it runs how large its output {output.name} {list(output.shape)} is"
                )
            specs.append(TensorSpec(output.name, spec_of(output).dtype, shape))
        bound = BoundTensors(runner, session, self._sessions, specs)
        if self._first_is_recorded and not bound.recordable and index == 0:
            # Another batch's graph still needs what a run that is waited for would give back.
            bound.close()
            runner = self._sessions.open(session.stream_handle, self._axes)
            return BoundTensors(runner, session, self._sessions, specs)
        self._first_is_recorded |= bound.recordable and index == 0
        return bound

    def close(self) -> None:
        """Lets go of the first session, before its stream goes; what was bound is closed first."""
        self._first = None


class BoundTensors:
    """A BoundNetwork: a session, its input and its outputs at fixed addresses."""

    channels_last = False

    def __init__(self, runner: Session, session: FrameSession, sessions: Sessions, specs: Sequence[TensorSpec]) -> None:
        """specs: of the input and the outputs. Allocates, binds, runs a few times and tries whether a run can be
        recorded; raises BackendError, for shapes that the network does not have too.
        """
        self._runner, self._session, self._sessions = runner, session, sessions
        self._binding = runner.io_binding()
        place = (sessions.device, sessions.device_index)
        with ExitStack() as undo:
            self.input, *outputs = (self._new(spec, undo) for spec in specs)
            self.outputs = tuple(outputs)
            _bind(self._binding.bind_input, self.input, place)
            for tensor in self.outputs:
                _bind(self._binding.bind_output, tensor, place)
            self._options = sessions.run_options(wait=sessions.no_graph_reason is not None)
            for _ in range(_TRIAL_RUNS):
                self.enqueue()
            session.synchronize()
            if sessions.no_graph_reason is None:
                sessions.no_graph_reason = self._why_not_recordable()
            self.recordable = sessions.no_graph_reason is None
            self._options = sessions.run_options(wait=not self.recordable)
            self._undo = undo.pop_all()

    def enqueue(self) -> None:
        """See BoundNetwork.enqueue; waits where it is not recordable."""
        if not self._sessions.on_stream:
            self._session.synchronize()
        try:
            self._runner.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # the library's exceptions derive from nothing narrower
            raise BackendError(f"ONNX Runtime failed on the GPU: {first_line(error)}") from error

    def close(self) -> None:
        """See BoundNetwork.close."""
        self._binding = self._runner = None
        self._undo.close()

    def _new(self, spec: TensorSpec, undo: ExitStack) -> DeviceTensor:
        shape = tuple(size or 0 for size in spec.shape)
        memory = self._session.zeroed(_bytes(shape, spec.dtype))
        undo.callback(memory.close)
        return DeviceTensor(spec.name, spec.dtype, shape, memory.address)

    def _why_not_recordable(self) -> str | None:
        """None where a recorded run does what a plain one does, with an input that it was not recorded with."""
        try:
            with GraphRecording(self._session.stream_handle) as recording:
                self.enqueue()
            graph = recording.graph()
        except BackendError as error:
            return str(error)
        try:
            return None if self._does_the_same(graph) else "a recorded run does not do what a plain one does"
        finally:
            graph.close()

    def _does_the_same(self, graph: Graph) -> bool:
        session, random = self._session, np.random.default_rng(0)
        with ExitStack() as undo:

            def on_host(tensor: DeviceTensor) -> tuple[int, AnyArray]:
                memory = session.host_memory(_bytes(tensor.shape, tensor.dtype))
                undo.callback(memory.close)
                return memory.address, memory.array.view(tensor.dtype).reshape(tensor.shape)

            def results_of(run: Callable[[], None]) -> list[AnyArray]:
                run()
                for tensor, (address, array) in zip(self.outputs, places, strict=True):
                    session.download(address, tensor.address, array.nbytes)
                session.synchronize()
                return [array.astype(np.float64) for _, array in places]

            places = [on_host(tensor) for tensor in self.outputs]
            address, noise = on_host(self.input)
            noise[...] = random.integers(0, 256, noise.shape) / (1 if noise.dtype == np.uint8 else 255)
            session.upload(self.input.address, address, noise.nbytes)
            # The recorded one first: if it does nothing, the outputs are still those of the trial runs' zeros.
            recorded = results_of(lambda: graph.launch(session.stream_handle))
            plain = results_of(self.enqueue)
            return all(_alike(*pair) for pair in zip(recorded, plain, strict=True))


def _shape(entry: Any, first: str | None, batch: int) -> tuple[int, ...] | None:
    """An output's shape for a batch: its axes are numbers, but for a first one that bears the name of the input's."""
    sizes = [batch if place == 0 and size == first else size for place, size in enumerate(entry.shape)]
    return tuple(sizes) if all(isinstance(size, int) for size in sizes) else None


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _bind(bind: Callable[..., None], tensor: DeviceTensor, place: tuple[str, int]) -> None:
    bind(tensor.name, *place, np.dtype(tensor.dtype).type, list(tensor.shape), tensor.address)


def _alike(one: AnyArray, other: AnyArray) -> bool:
    largest = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
    return np.allclose(one, other, rtol=_RELATIVE, atol=_OF_LARGEST * largest, equal_nan=True)
