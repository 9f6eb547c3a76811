"""A session as the short way wants its network: tensors at addresses that stay, on a stream that is somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from trt_perception.backends.cuda_frames.driver import GraphRecording
from trt_perception.backends.cuda_frames.network import DeviceTensor
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.onnxruntime_runtime.library import first_line, spec_of
from trt_perception.errors import BackendError
from trt_perception.model_file import InputSpec
from trt_perception.types import TensorSpec

# An onnxruntime.InferenceSession or RunOptions; onnxruntime itself is not imported here.
Session: TypeAlias = Any
RunOptions: TypeAlias = Any

# Each size of batch has memory and a graph of its own.
_LARGEST_BATCH = 8
# ONNX Runtime allocates memory in the first two runs, which a recording does not allow.
_TRIAL_RUNS = 3


@dataclass(frozen=True)
class SessionSource:
    """What the backend lends. open: a further session on the stream of that handle, the input's free axes fixed at
    the sizes given by name. recordable: its sessions' runs may be recorded as part of a CUDA graph. on_stream: they
    run on the stream that they were opened with, and do not wait for it; others run on one of their own.
    """

    open: Callable[[int, Mapping[str, int]], Session]
    run_options: RunOptions
    device: str
    device_index: int
    recordable: bool
    on_stream: bool


class OnnxRuntimeNetwork:
    """A DeviceNetwork (see cuda_frames/network.py) of a session's input and outputs.

    no_graph_reason: why a run could not be recorded when it was tried, None where it could or was not tried.
    """

    def __init__(self, session: Session, source: SessionSource, picture: InputSpec) -> None:
        """session: runs on the stream of the frame session that bind() is given for index 0."""
        self._session, self._source = session, source
        (entry,) = session.get_inputs()
        first = entry.shape[0]
        self.input_dtype = spec_of(entry).dtype
        self._picture = (picture.channels, picture.height, picture.width)
        # Where a size of the outputs does not follow from the batch, it may from the input's whole shape.
        follows = all(_shape(output, first, 1) is not None for output in session.get_outputs())
        sizes = zip(entry.shape, (1, *self._picture), strict=True)
        self._axes = {} if follows else {name: size for name, size in sizes if isinstance(name, str)}
        self._first = None if self._axes else first
        free = (1, _LARGEST_BATCH) if follows else (1, 1)
        self.batches: tuple[int, int] = (first, first) if isinstance(first, int) else free
        self.no_graph_reason: str | None = None

    def bind(self, session: FrameSession, batch: int, index: int) -> BoundTensors:
        """See DeviceNetwork.bind; a further stream takes a further session, with weights of its own."""
        own = self._session if index == 0 and not self._axes else None
        try:
            runner = own or self._source.open(session.stream_handle, self._axes)
            (entry,) = runner.get_inputs()
            source = TensorSpec(entry.name, self.input_dtype, (batch, *self._picture))
            outputs = [(output, _shape(output, self._first, batch)) for output in runner.get_outputs()]
        except BackendError:
            raise
        except Exception as error:  # the library's exceptions derive from nothing narrower
            raise BackendError(f"ONNX Runtime has no session for this: {first_line(error)}") from error
        specs = []
        for output, shape in outputs:
            if shape is None:
                raise BackendError(
                    f"the network tells only while it runs how large its output {output.name} {list(output.shape)} is"
                )
            specs.append(TensorSpec(output.name, spec_of(output).dtype, shape))
        bound = BoundTensors(runner, session, self._source, source, specs)
        self.no_graph_reason = self.no_graph_reason or bound.no_graph_reason
        return bound

    def close(self) -> None:
        """Lets go of the session; what was bound is closed first."""
        self._session = None


class BoundTensors:
    """A BoundNetwork: a session, its input and its outputs at fixed addresses."""

    channels_last = False

    def __init__(
        self,
        runner: Session,
        session: FrameSession,
        source: SessionSource,
        image: TensorSpec,
        outputs: list[TensorSpec],
    ) -> None:
        """Allocates, binds and runs a few times; raises BackendError, for shapes that the network does not have too."""
        self._runner, self._session, self._source = runner, session, source
        self._binding = runner.io_binding()
        place = (source.device, source.device_index)
        with ExitStack() as undo:

            def new(spec: TensorSpec) -> DeviceTensor:
                shape = tuple(size or 0 for size in spec.shape)
                dtype = np.dtype(spec.dtype)
                memory = session.zeroed(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
                undo.callback(memory.close)
                return DeviceTensor(spec.name, spec.dtype, shape, memory.address)

            self.input = new(image)
            self.outputs = tuple(new(spec) for spec in outputs)
            self._bind(self._binding.bind_input, self.input, place)
            for tensor in self.outputs:
                self._bind(self._binding.bind_output, tensor, place)
            for _ in range(_TRIAL_RUNS):
                self.enqueue()
            session.synchronize()
            self.no_graph_reason = self._why_not_recordable() if source.recordable else None
            self.recordable = source.recordable and self.no_graph_reason is None
            self._undo = undo.pop_all()

    def enqueue(self) -> None:
        """See BoundNetwork.enqueue."""
        if not self._source.on_stream:
            self._session.synchronize()
        try:
            self._runner.run_with_iobinding(self._binding, self._source.run_options)
        except Exception as error:  # as above
            raise BackendError(f"ONNX Runtime failed on the GPU: {first_line(error)}") from error

    def close(self) -> None:
        """See BoundNetwork.close."""
        self._binding = self._runner = None
        self._undo.close()

    @staticmethod
    def _bind(bind: Callable[..., None], tensor: DeviceTensor, place: tuple[str, int]) -> None:
        bind(tensor.name, *place, np.dtype(tensor.dtype).type, list(tensor.shape), tensor.address)

    def _why_not_recordable(self) -> str | None:
        """None where a recording of a run comes out whole."""
        try:
            with GraphRecording(self._session.stream_handle) as recording:
                self.enqueue()
            recording.graph().close()
        except BackendError as error:
            return str(error)
        return None


def _shape(entry: Any, first: str | None, batch: int) -> tuple[int, ...] | None:
    """An output's shape for a batch: its axes are numbers, but for a first one that bears the name of the input's."""
    sizes = [batch if place == 0 and size == first else size for place, size in enumerate(entry.shape)]
    return tuple(sizes) if all(isinstance(size, int) for size in sizes) else None
