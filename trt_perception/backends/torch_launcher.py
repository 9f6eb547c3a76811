"""How torch's work is launched and timed: on a GPU with CUDA graphs and events, on the processor call by call."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, TypeVar

# A torch.Tensor; torch itself is not imported here.
Tensor: TypeAlias = Any
Launches: TypeAlias = Callable[[], object]
Result = TypeVar("Result")

# torch's executor watches the first runs of a TorchScript module and then rewrites it.
_RUNS_BEFORE_RECORDING = 3


class HostLauncher:
    """Everything is done when the call returns."""

    no_graph_reason: str | None = None

    def __init__(self, device: Any) -> None:
        self.device = device
        self._marks: list[int] = []

    def turn(self) -> AbstractContextManager[object]:
        """The context for a frame's work."""
        return nullcontext()

    def host_tensor(self, like: Tensor) -> Tensor:
        """Memory on the host of the same shape and type, that copies to and from the device may use directly."""
        return like.new_empty(like.shape, device="cpu")

    def record(self, work: Callable[[], Result]) -> tuple[Result, Launches]:
        """Does the work; its result, whose tensors keep their memory, and what renews what is in them."""
        result = work()
        return result, lambda: _renew(result, work())

    def start(self) -> None:
        """Forgets the marks of an earlier turn and makes the first one."""
        self._marks.clear()
        self.mark()

    def mark(self) -> None:
        """Notes when the device comes to this point."""
        self._marks.append(time.monotonic_ns())

    def spans_ns(self) -> list[int]:
        """Waits for the device; the times from each mark to the next."""
        return [after - before for before, after in itertools.pairwise(self._marks)]


class CudaLauncher:
    """Work is recorded in CUDA graphs where that is wanted and possible, on a stream of its own."""

    def __init__(self, torch: Any, device: Any, *, graphs: bool) -> None:
        self.device = device
        self.no_graph_reason: str | None = None if graphs else "cuda_graph is off"
        self._torch = torch
        self._stream = torch.cuda.Stream(device)
        self._events: list[Any] = []
        self._marks = 0

    def turn(self) -> AbstractContextManager[object]:
        """As HostLauncher's; makes the stream and its device current."""
        context: AbstractContextManager[object] = self._torch.cuda.stream(self._stream)
        return context

    def host_tensor(self, like: Tensor) -> Tensor:
        """As HostLauncher's; page-locked."""
        return self._torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def record(self, work: Callable[[], Result]) -> tuple[Result, Launches]:
        """As HostLauncher's; what cannot be recorded is launched call by call, and no_graph_reason says why."""
        result = work()
        if self.no_graph_reason is not None:
            return result, lambda: _renew(result, work())
        for _ in range(_RUNS_BEFORE_RECORDING):
            work()
        self._stream.synchronize()
        graph = self._torch.cuda.CUDAGraph()
        try:
            # Other threads of a node may allocate meanwhile, which would end a capture of all threads.
            with self._torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                recorded = work()
        except RuntimeError as error:
            self.no_graph_reason = next(iter(str(error).splitlines()), type(error).__name__)
            return result, lambda: _renew(result, work())
        graph.replay()
        return recorded, graph.replay

    def start(self) -> None:
        """As HostLauncher's."""
        self._marks = 0
        self.mark()

    def mark(self) -> None:
        """As HostLauncher's."""
        if self._marks == len(self._events):
            self._events.append(self._torch.cuda.Event(enable_timing=True))
        self._events[self._marks].record(self._stream)
        self._marks += 1

    def spans_ns(self) -> list[int]:
        """As HostLauncher's; by the device's clock."""
        self._stream.synchronize()
        marks = self._events[: self._marks]
        return [round(before.elapsed_time(after) * 1e6) for before, after in itertools.pairwise(marks)]


Launcher: TypeAlias = HostLauncher | CudaLauncher


def _renew(old: Any, new: Any) -> None:
    """Copies tensors into those of the first time, which others hold."""
    if old is None:
        return
    if isinstance(old, list):
        for before, after in zip(old, new, strict=True):
            before.copy_(after)
    else:
        old.copy_(new)
