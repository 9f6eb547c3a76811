"""A deserialised engine with its context, buffers and graph: one batch in, named outputs and device times out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from trt_perception.backends.base import RawOutputs
from trt_perception.backends.cuda_frames.driver import TimingEvent
from trt_perception.backends.cuda_frames.recording import Graph, GraphRecording
from trt_perception.backends.tensorrt_runtime.cuda_session import Buffer, CudaSession
from trt_perception.backends.tensorrt_runtime.engine_tensors import as_delivered, engine_tensors
from trt_perception.backends.tensorrt_runtime.faults import explain
from trt_perception.backends.tensorrt_runtime.layer_profiler import LayerProfiler
from trt_perception.backends.tensorrt_runtime.library import TensorRt, load_plugins
from trt_perception.backends.tensorrt_runtime.shaped_context import ShapedContext
from trt_perception.backends.tensorrt_runtime.trt_logger import collect, process_logger
from trt_perception.errors import BackendError
from trt_perception.types import AnyArray, Float32Array, TensorSpec


@dataclass(frozen=True)
class _Bound:
    """Buffers, events and, where it could be recorded, the graph for one input shape.

    changes: of the context, when the graph was recorded.
    """

    shape: tuple[int, ...]
    enqueue: Callable[[], None]
    input: Buffer
    outputs: tuple[Buffer, ...]
    events: tuple[TimingEvent, ...]
    graph: Graph | None
    no_graph_reason: str | None
    changes: int

    def is_stale(self, context: ShapedContext) -> bool:
        """True where the graph does not hold any more."""
        return self.graph is not None and self.changes != context.changes

    def close(self) -> None:
        """Frees everything; called with the context current and the stream idle."""
        with ExitStack() as stack:
            for buffer in (self.input, *self.outputs):
                stack.callback(buffer.close)
            for event in self.events:
                stack.callback(event.close)
            if self.graph is not None:
                stack.callback(self.graph.close)


class EngineRunner:
    """Runs one engine on one session. One call at a time, from any thread; the caller keeps the calls apart."""

    def __init__(
        self,
        trt: TensorRt,
        session: CudaSession,
        plan: bytes,
        *,
        tell: Callable[[str], None],
        cuda_graph: bool,
        profile: bool = False,
        host_code: bool = False,
        shares_profile: bool = False,
    ) -> None:
        """Deserialises `plan` (without any header) and runs it once with zeros.

        cuda_graph: record copies and inference as one graph; where that does not work, `no_graph_reason` says why.
        tell: takes, once, why a shape that comes later is no graph.
        profile: measure every layer, which leaves no room for a graph. host_code: run the code that an engine brings
        with it (its own runtime), for engines of known origin. shares_profile: see EngineKey.
        Raises BackendError for an engine that does not load, has several inputs, or types that NumPy lacks. The
        runner takes the session over: it closes it, also after an error here.
        """
        self._trt = trt
        self._session = session
        self._tell: Callable[[str], None] | None = tell
        self._want_graph = cuda_graph and not profile
        self._want_profile = profile
        self._shares_profile = shares_profile
        self.profiler: LayerProfiler | None = None
        self._bound: _Bound | None = None
        self._runtime: Any = None
        self._engine: Any = None
        self._first_context: Any = None
        self._context: ShapedContext | None = None
        self._before_closing: list[Callable[[], None]] = []
        try:
            with session.current():
                self._load(plan, host_code=host_code)
                if profile:
                    self.profiler = LayerProfiler(trt.module, self._engine, self._first_context)
                tensors = engine_tensors(self._engine, self._trt.module.TensorIOMode)
                self.inputs, self.outputs = (tensors.input,), tensors.delivered
                self.range, self._output_types = tensors.range, tensors.output_types
                self._context = ShapedContext(self._first_context, tensors.input, tensors.output_types)
                self._bound = self._bind(self.range.best)
        except BaseException:
            self.close()
            raise

    @property
    def no_graph_reason(self) -> str | None:
        """Why inference is not one CUDA graph, None when it is."""
        return self._bound.no_graph_reason if self._bound else None

    @property
    def session(self) -> CudaSession:
        """Context and stream that this engine runs on."""
        return self._session

    @property
    def context(self) -> ShapedContext:
        """The first of its execution contexts; whoever uses it shares it with run()."""
        assert self._context is not None
        return self._context

    def further_context(self) -> ShapedContext:
        """Another execution context, with memory of its own; raises BackendError where there is no room for one.

        And for an engine of free sizes of which it is not known that contexts may share its profile.
        """
        free = None in self.inputs[0].shape
        if free and not self._shares_profile:
            # TensorRT 8.6.0 does not refuse a profile that another context has: the process dies.
            raise BackendError(
                "the engine's sizes are free, and it is not known to be built for more than one execution context; "
                "build it again with TensorRT 8.6 or newer and `trt-perception build-engine`, or from an ONNX of fixed "
                "size"
            )
        with collect() as messages:
            context = self._engine.create_execution_context()
            if context is None:
                size = self.device_memory_bytes / 2**20
                raise BackendError(
                    f"no room for one more execution context, {size:.0f} MiB: {explain(messages.summary())}"
                )
            # Where nothing is free there is nothing to choose.
            if free and context.active_optimization_profile < 0:
                if not context.set_optimization_profile_async(0, self._session.stream_handle):
                    raise BackendError(f"no further execution context: {explain(messages.summary())}")
                self._session.synchronize()
        return ShapedContext(context, self.inputs[0], self._output_types)

    @property
    def device_memory_bytes(self) -> int:
        """What the execution context needs on the GPU beside weights and buffers."""
        return int(getattr(self._engine, self._trt.dialect.device_memory))

    def run(self, batch: AnyArray) -> RawOutputs:
        """One inference; the arrays are valid until the next call. Raises BackendError."""
        if not self.range.holds(batch.shape):
            raise BackendError(
                f"the input has shape {tuple(batch.shape)}; the engine was built for {self.range.smallest} to "
                f"{self.range.largest}: build it again with --minShapes and --maxShapes that include it"
            )
        with self._session.current():
            bound = self._bound_for(batch.shape)
            stream = self._session.stream_handle
            start_ns = time.monotonic_ns()
            if batch is not bound.input.host:
                np.copyto(bound.input.host, batch)
            staged_ns = time.monotonic_ns() - start_ns
            if bound.graph is not None:
                bound.graph.launch(stream)
            else:
                self._queue_one_by_one(bound)
            self._session.synchronize()
            begin, uploaded, inferred, downloaded = bound.events
            return RawOutputs(
                tuple(as_delivered(output.host) for output in bound.outputs),
                start_ns,
                inference_ns=uploaded.nanoseconds_until(inferred),
                host_to_device_ns=staged_ns + begin.nanoseconds_until(uploaded),
                device_to_host_ns=inferred.nanoseconds_until(downloaded),
            )

    def input_buffer(self, shape: tuple[int, ...]) -> Float32Array | None:
        """The host side of the input for that shape, None where the engine takes another shape now, or no float32."""
        if self._bound is None or self._bound.shape != shape or self._bound.input.host.dtype != np.float32:
            return None
        return self._bound.input.host

    def close_first(self, close: Callable[[], None]) -> None:
        """Has that called before anything of the engine is freed, since it rests on it."""
        self._before_closing.append(close)

    def close(self) -> None:
        """Frees buffers, context, engine and runtime in that order, then the session; a second call does nothing."""
        if self._session is None:
            return
        session = self._session
        while self._before_closing:
            self._before_closing.pop()()
        with session.current():
            # After a failed kernel every call fails; what can be freed is freed all the same.
            with suppress(BackendError):
                session.synchronize()
            if self._bound is not None:
                with suppress(BackendError):
                    self._bound.close()
            self._bound = None
            self._context = self._first_context = None
            self._engine = None
            self._runtime = None
        session.close()
        self._session = None  # type: ignore[assignment]

    def _load(self, plan: bytes, *, host_code: bool) -> None:
        library = self._trt.module
        with collect() as messages:
            load_plugins(library)
            self._runtime = library.Runtime(process_logger(library))
            if host_code and self._trt.dialect.version_compatible is not None:
                self._runtime.engine_host_code_allowed = True
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise BackendError(f"{self._trt} cannot load it: {explain(messages.summary())}")
            self._first_context = self._engine.create_execution_context()
            if self._first_context is None:
                size = self.device_memory_bytes / 2**20
                raise BackendError(
                    f"{self._trt} cannot make an execution context, which needs {size:.0f} MiB on the GPU: "
                    f"{explain(messages.summary())}"
                )

    def _bound_for(self, shape: tuple[int, ...]) -> _Bound:
        if self._bound is None or self._bound.shape != shape or self._bound.is_stale(self.context):
            if self._bound is not None:
                self._bound.close()
                self._bound = None
            self._bound = self._bind(shape)
            if self._bound.no_graph_reason and self._want_graph and self._tell is not None:
                self._tell(f"no CUDA graph for the shape {shape}: {self._bound.no_graph_reason}")
                self._tell = None
        return self._bound

    def _bind(self, shape: tuple[int, ...]) -> _Bound:
        """Sets the shape, allocates, tells TensorRT the addresses, runs once and records the graph."""
        with ExitStack() as undo:
            given = TensorSpec(self.inputs[0].name, self.inputs[0].dtype, shape)
            self.context.set_shape(shape)
            specs = (given, *self.context.outputs())
            buffers = [self._buffer(undo, spec) for spec in specs]
            source, *outputs = buffers
            addresses = [(spec.name, buffer.address) for spec, buffer in zip(specs, buffers, strict=True)]
            enqueue = partial(self.context.enqueue, self._session.stream_handle, shape, addresses)
            source.host.fill(0)
            events: list[TimingEvent] = []
            for _ in range(4):
                events.append(TimingEvent())
                undo.callback(events[-1].close)
            # The first run loads kernels lazily, which a recording does not allow.
            self._queue(enqueue, source, outputs, events, captured=False)
            self._session.synchronize()
            graph, reason = self._record(enqueue, source, outputs, events)
            undo.pop_all()
        changes = self.context.changes
        return _Bound(shape, enqueue, source, tuple(outputs), tuple(events), graph, reason, changes)

    def _record(
        self, enqueue: Callable[[], None], source: Buffer, outputs: Sequence[Buffer], events: Sequence[TimingEvent]
    ) -> tuple[Graph | None, str | None]:
        if not self._want_graph:
            return None, "switched off by the setting " + ("profile_to" if self._want_profile else "cuda_graph")
        stream = self._session.stream_handle
        try:
            with GraphRecording(stream) as recording:
                self._queue(enqueue, source, outputs, events, captured=True)
            graph = recording.graph()
        except (BackendError, AttributeError) as error:  # AttributeError: a driver older than CUDA 11.4
            self._session.synchronize()
            return None, f"this engine or driver cannot be recorded ({error})"
        graph.launch(stream)
        self._session.synchronize()
        return graph, None

    def _queue_one_by_one(self, bound: _Bound) -> None:
        if self.profiler is not None:
            self.profiler.begin_run()
        self._queue(bound.enqueue, bound.input, bound.outputs, bound.events, captured=False)
        if self.profiler is not None:
            self.profiler.end_run()

    def _queue(
        self,
        enqueue: Callable[[], None],
        source: Buffer,
        outputs: Sequence[Buffer],
        events: Sequence[TimingEvent],
        *,
        captured: bool,
    ) -> None:
        stream = self._session.stream_handle
        begin, uploaded, inferred, downloaded = events
        begin.record(stream, captured=captured)
        source.upload()
        uploaded.record(stream, captured=captured)
        enqueue()
        inferred.record(stream, captured=captured)
        for output in outputs:
            output.download()
        downloaded.record(stream, captured=captured)

    def _buffer(self, undo: ExitStack, spec: TensorSpec) -> Buffer:
        buffer = self._session.buffer([n or 0 for n in spec.shape], spec.dtype)
        undo.callback(buffer.close)
        return buffer
