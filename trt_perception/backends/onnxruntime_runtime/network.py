"""Sessions as the short way wants its network: tensors at addresses that stay, on a stream that is somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from trt_perception.backends.cuda_frames.network import DeviceTensor
from trt_perception.backends.cuda_frames.recording import Graph, GraphRecording
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.onnxruntime_runtime.library import first_line, spec_of
from trt_perception.backends.onnxruntime_runtime.sessions import Session, Sessions
from trt_perception.errors import BackendError
from trt_perception.model_file import InputSpec
from trt_perception.types import AnyArray, TensorSpec

# Each size of batch has memory and a graph of its own.
_LARGEST_BATCH = 8
# ONNX Runtime allocates memory in the first two runs, which a recording does not allow.
_TRIAL_RUNS = 2
# A recorded run computes what a plain one does, but for sums in whatever order atomic additions come.
_RELATIVE, _OF_LARGEST = 1e-3, 1e-6


class OnnxRuntimeNetwork:
    """A DeviceNetwork (see cuda_frames/network.py).

    Its sessions are its own: a session that was recorded is used for nothing else (see Sessions.run_options).
    """

    def __init__(self, sessions: Sessions, like: Session, picture: InputSpec) -> None:
        """like: an opened session of the same file, which is only looked at. Raises BackendError for outputs whose
        size nothing but their values tells.
        """
        (entry,) = like.get_inputs()
        first = entry.shape[0]
        self.input_dtype = spec_of(entry).dtype
        self.batches: tuple[int, int] = (first, first) if _is_fixed(first) else (1, _LARGEST_BATCH)
        self._sessions = sessions
        self._picture = (picture.channels, picture.height, picture.width)
        self._first: Session | None = None
        self._first_is_recorded = False
        for output in like.get_outputs():
            # Free axes of the same name are as large; those without a name have nothing in common.
            known = all(_is_fixed(size) or (size == first and isinstance(size, str)) for size in output.shape)
            if not known and sessions.operators_of_any_size:
                raise BackendError(
                    f"only the run tells how large the output {output.name} {list(output.shape)} is "
                    f"({', '.join(sessions.operators_of_any_size)})"
                )

    @property
    def no_graph_reason(self) -> str | None:
        """See DeviceNetwork."""
        return self._sessions.no_graph_reason

    def bind(self, session: FrameSession, batch: int, index: int) -> BoundTensors:
        """See DeviceNetwork.bind; a further stream takes a further session, with weights of its own."""
        # Since it was recorded, another batch could not be.
        spoilt = self._first_is_recorded and self._sessions.no_graph_reason is not None
        runner = self._first if index == 0 and not spoilt else None
        if runner is None:
            runner = self._sessions.open(session.stream_handle)
            if index == 0 and not spoilt:
                self._first = runner
        spec = TensorSpec(runner.get_inputs()[0].name, self.input_dtype, (batch, *self._picture))
        bound = BoundTensors(runner, session, self._sessions, spec)
        if runner is self._first and self._first_is_recorded and not bound.recordable:
            # Another batch's graph still needs what a run that is waited for would give back.
            bound.close()
            return BoundTensors(self._sessions.open(session.stream_handle), session, self._sessions, spec)
        self._first_is_recorded |= bound.recordable and index == 0
        return bound

    def close(self) -> None:
        """Lets go of the first session, before its stream goes; what was bound is closed first."""
        self._first = None


class BoundTensors:
    """A BoundNetwork: a session, its input and its outputs at fixed addresses."""

    channels_last = False
    is_stale = False

    def __init__(self, runner: Session, session: FrameSession, sessions: Sessions, image: TensorSpec) -> None:
        """image: of the input, whole. Allocates, binds, runs a few times and tries whether a run can be recorded;
        raises BackendError.
        """
        self._runner, self._session, self._sessions = runner, session, sessions
        self._binding = runner.io_binding()
        self._options = sessions.run_options(wait=sessions.no_graph_reason is not None)
        with ExitStack() as undo:
            self.input = self._new(image, undo)
            self._bind(self._binding.bind_input, self.input)
            self.outputs = tuple(self._new(spec, undo) for spec in self._first_run())
            for tensor in self.outputs:
                self._bind(self._binding.bind_output, tensor)
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

    def _first_run(self) -> list[TensorSpec]:
        """What the outputs are, in memory of ONNX Runtime's: a file may leave sizes open, or declare wrong ones."""
        entries = self._runner.get_outputs()
        for entry in entries:
            self._binding.bind_output(entry.name, self._sessions.device, self._sessions.device_index)
        self.enqueue()
        shapes = [tuple(value.shape()) for value in self._binding.get_outputs()]
        self._session.synchronize()
        self._binding.clear_binding_outputs()
        return [
            TensorSpec(entry.name, spec_of(entry).dtype, shape) for entry, shape in zip(entries, shapes, strict=True)
        ]

    def _bind(self, bind: Callable[..., None], tensor: DeviceTensor) -> None:
        place = (self._sessions.device, self._sessions.device_index)
        bind(tensor.name, *place, np.dtype(tensor.dtype).type, list(tensor.shape), tensor.address)

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


def _is_fixed(size: int | str | None) -> bool:
    """A free axis bears a name, or none; some exporters write 0 or -1."""
    return isinstance(size, int) and size > 0


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _alike(one: AnyArray, other: AnyArray) -> bool:
    largest = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
    return np.allclose(one, other, rtol=_RELATIVE, atol=_OF_LARGEST * largest, equal_nan=True)
