"""A torch network as the network of the short way: recorded in a CUDA graph, or run call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from trt_perception.backends.cuda_frames.network import DeviceTensor
from trt_perception.backends.cuda_frames.recording import add_to_recording
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.errors import BackendError

# A torch.Tensor; torch itself is not imported here.
Tensor: TypeAlias = Any
Network: TypeAlias = Callable[[Tensor], list[Tensor]]

MAX_BATCH = 8
# torch's executor watches the first runs of a TorchScript module and then rewrites it.
_RUNS_BEFORE_RECORDING = 3
# What torch's C++ errors become in Python.
_ERRORS = (RuntimeError, ValueError, IndexError, TypeError)


class TorchNetwork:
    """See DeviceNetwork. no_graph_reason: why inference is not a CUDA graph, None while it is."""

    def __init__(
        self,
        torch: Any,
        device: Any,
        network: Network,
        shape: tuple[int, int, int],
        dtype: Any,
        *,
        graphs: bool,
        channels_last: bool = False,
    ) -> None:
        """network: what gives the flat outputs of a (batch, *shape) tensor of that dtype on that device.

        Runs it with one and two pictures, to see whether it takes several. Raises BackendError.
        """
        self.torch, self.device, self.run, self.shape, self.dtype = torch, device, network, shape, dtype
        self.channels_last = channels_last
        self.input_dtype = _name(dtype)
        self.no_graph_reason: str | None = None if graphs else "switched off by the setting cuda_graph"
        with self.on(torch.cuda.default_stream(device)):
            one = [tuple(output.shape) for output in network(self.empty(1))]
            try:
                two = [tuple(output.shape) for output in network(self.empty(2))]
            except _ERRORS:  # traced for one picture
                two = []
        self.batches = (1, MAX_BATCH if two == [(2, *shape[1:]) for shape in one] else 1)

    def empty(self, batch: int) -> Tensor:
        """An input of zeros in the network's layout."""
        layout = self.torch.channels_last if self.channels_last else self.torch.contiguous_format
        shape = (batch, *self.shape)
        return self.torch.zeros(shape, dtype=self.dtype, device=self.device).contiguous(memory_format=layout)

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        """The block in which torch's work goes to that stream; its errors become BackendErrors."""
        try:
            with self.torch.inference_mode(), self.torch.cuda.stream(stream):
                yield
        except _ERRORS as error:
            raise BackendError(f"the network fails on the GPU: {last_line(error)}") from error

    def bind(self, session: FrameSession, batch: int, index: int) -> BoundTorch:
        """See DeviceNetwork."""
        return BoundTorch(self, session, batch)


class BoundTorch:
    """See BoundNetwork."""

    is_stale = False

    def __init__(self, network: TorchNetwork, session: FrameSession, batch: int) -> None:
        torch = network.torch
        self._network = network
        self._torch_stream = torch.cuda.ExternalStream(session.stream_handle, device=network.device)
        self._stream = session.stream_handle
        self.channels_last = network.channels_last
        # Weights may still be on their way on another stream.
        torch.cuda.synchronize(network.device)
        with network.on(self._torch_stream):
            self._tensor = network.empty(batch)
            for _ in range(_RUNS_BEFORE_RECORDING):
                self._results = self._once()
            self._torch_stream.synchronize()
            self._graph, self.recordable = self._recorded()
        self.input = _described("images", self._tensor)
        self.outputs = tuple(_described(f"output{i}", result) for i, result in enumerate(self._results))

    def enqueue(self) -> None:
        """See BoundNetwork; a graph that may be looked into becomes part of the slot's."""
        if self.recordable and add_to_recording(self._stream, self._graph.raw_cuda_graph()):
            return
        with self._network.on(self._torch_stream):
            if self._graph is not None:
                self._graph.replay()
                return
            for result, new in zip(self._results, self._once(), strict=True):
                result.copy_(new)

    def close(self) -> None:
        """See BoundNetwork."""
        self._graph = self._tensor = None
        self._results = []

    def _once(self) -> list[Tensor]:
        kept = (self._network.torch.float32, self._network.torch.float16)
        outputs = self._network.run(self._tensor)
        return [(o.float() if o.is_floating_point() and o.dtype not in kept else o).contiguous() for o in outputs]

    def _recorded(self) -> tuple[Any, bool]:
        """The graph, None where there is none, and whether it may become a part of another."""
        network = self._network
        torch = network.torch
        if network.no_graph_reason is not None:
            return None, False
        try:
            graph, open_to_others = torch.cuda.CUDAGraph(keep_graph=True), True
        except TypeError:  # older than torch 2.8
            graph, open_to_others = torch.cuda.CUDAGraph(), False
        try:
            # Other threads of a node may allocate meanwhile, which would end a capture of all threads.
            with torch.cuda.graph(graph, stream=self._torch_stream, capture_error_mode="thread_local"):
                results = self._once()
        except _ERRORS as error:
            network.no_graph_reason = last_line(error)
            return None, False
        self._results = results
        return graph, open_to_others


def _described(name: str, tensor: Tensor) -> DeviceTensor:
    return DeviceTensor(name, _name(tensor.dtype), tuple(tensor.shape), tensor.data_ptr())


def _name(dtype: Any) -> str:
    """NumPy's name of torch's type."""
    return str(dtype).removeprefix("torch.")


def last_line(error: Exception) -> str:
    """TorchScript puts the reason below its traceback."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
