"""An engine as the network of the short way: its inference becomes part of the slot's CUDA graph."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import numpy as np

from trt_perception.backends.cuda_frames.network import DeviceTensor
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.tensorrt_runtime.engine_runner import EngineRunner
from trt_perception.backends.tensorrt_runtime.shaped_context import ShapedContext
from trt_perception.errors import BackendError
from trt_perception.model_file import InputSpec
from trt_perception.types import TensorSpec

LOG = logging.getLogger(__name__)


class BoundEngine:
    """See BoundNetwork."""

    channels_last = False
    recordable = True

    def __init__(
        self, given: TensorSpec, session: FrameSession, shape: tuple[int, ...], context: ShapedContext
    ) -> None:
        context.set_shape(shape)
        specs = (TensorSpec(given.name, given.dtype, shape), *context.outputs())
        with ExitStack() as undo:
            self.input, *outputs = (_tensor(session, undo, spec) for spec in specs)
            self.outputs = tuple(outputs)
            self._how = session.stream_handle, shape, [(t.name, t.address) for t in (self.input, *outputs)]
            self._context: ShapedContext | None = context
            self._changes = context.changes
            self._undo = undo.pop_all()

    @property
    def is_stale(self) -> bool:
        """See BoundNetwork; where batches share a context, each inference of another batch makes it so."""
        return self._context is not None and self._context.changes != self._changes

    def enqueue(self) -> None:
        """See BoundNetwork."""
        assert self._context is not None
        self._context.enqueue(*self._how)
        self._changes = self._context.changes

    def close(self) -> None:
        """See BoundNetwork; with the last use of its context that is freed."""
        self._context = None
        self._undo.close()


class EngineNetwork:
    """See DeviceNetwork."""

    # It is not bound at all where it cannot be recorded.
    no_graph_reason: str | None = None

    def __init__(self, runner: EngineRunner, picture: InputSpec) -> None:
        """Raises BackendError where the engine was built for other sizes than the model file's."""
        self._runner = runner
        # Where sizes are free, the profile's largest is not the one that pictures are prepared for.
        self._picture = (picture.channels, picture.height, picture.width)
        if not runner.range.holds((runner.range.largest[0], *self._picture)):
            raise BackendError(f"the engine takes {runner.range.smallest} to {runner.range.largest}")
        self.input_dtype = runner.inputs[0].dtype
        self.batches = (runner.range.smallest[0], runner.range.largest[0])
        self._first_batch = 0
        self._batches_share = False

    def bind(self, session: FrameSession, batch: int, index: int) -> BoundEngine:
        """See DeviceNetwork; each further stream has a context of its own, and each further batch where it can."""
        if index:
            context = self._runner.further_context()
        else:
            self._first_batch = self._first_batch or batch
            context = self._runner.context if batch == self._first_batch else self._context_for_a_further_batch()
        return BoundEngine(self._runner.inputs[0], session, (batch, *self._picture), context)

    def _context_for_a_further_batch(self) -> ShapedContext:
        if not self._batches_share:
            try:
                return self._runner.further_context()
            except BackendError as error:
                LOG.warning("batches share one execution context, which costs time where they take turns: %s", error)
                self._batches_share = True
        return self._runner.context


def _tensor(session: FrameSession, undo: ExitStack, spec: TensorSpec) -> DeviceTensor:
    shape = tuple(n or 0 for n in spec.shape)
    memory = session.device_memory(int(np.prod(shape)) * np.dtype(spec.dtype).itemsize)
    undo.callback(memory.close)
    return DeviceTensor(spec.name, spec.dtype, shape, memory.address)
