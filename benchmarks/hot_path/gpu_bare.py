"""The least that a frame costs on a GPU: its bytes go up and the engine runs, with nothing around them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import numpy as np

from benchmarks.hot_path import straightforward
from benchmarks.hot_path.blocks import Way
from benchmarks.hot_path.frames import DISTINCT
from benchmarks.hot_path.gpu_memory import LockedFrame, locked_frames
from benchmarks.hot_path.gpu_setting import TENSORRT, GpuWay, Setting, open_detector
from benchmarks.hot_path.network import SIDE_PX
from trt_perception.backends.cuda_frames.driver import call
from trt_perception.backends.cuda_frames.recording import Graph, GraphRecording
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.tensorrt_backend import TensorRtBackend
from trt_perception.backends.tensorrt_runtime.engine_network import BoundEngine, EngineNetwork
from trt_perception.types import Float32Array


def upload_and_engine(*, page_locked: bool) -> GpuWay:
    """The upload of the frame's bytes by the host's clock, and the engine's own time by device events; two waits."""

    @contextmanager
    def way(setting: Setting) -> Iterator[Way]:
        blob = straightforward.preprocess(setting.frames[0], SIDE_PX)[0]
        with open_detector(setting, TENSORRT) as detector, locked_frames(setting.frames) as (session, locked):

            def run(index: int) -> dict[str, int]:
                place, frame = locked[index % DISTINCT], setting.frames[index % DISTINCT]
                start_ns = time.monotonic_ns()
                with session.current():
                    if page_locked:
                        session.upload(place.device, place.host, frame.nbytes)
                        session.synchronize()
                    else:
                        address = ctypes.c_void_p(frame.ctypes.data)
                        call("cuMemcpyHtoD_v2", ctypes.c_uint64(place.device), address, ctypes.c_size_t(frame.nbytes))
                upload_ns = time.monotonic_ns() - start_ns
                engine_ns = detector._backend.infer(blob).inference_ns
                return {"total": upload_ns + engine_ns, "upload": upload_ns, "engine": engine_ns}

            yield run

    return way


@contextmanager
def upload_and_engine_at_once(setting: Setting) -> Iterator[Way]:
    """Both in one CUDA graph for each frame: one launch, one wait; `total` by the host's clock."""
    blob = np.ascontiguousarray(straightforward.preprocess(setting.frames[0], SIDE_PX)[0], np.float32)
    with (
        open_detector(setting, TENSORRT) as detector,
        locked_frames(setting.frames) as (session, locked),
        ExitStack() as stack,
    ):
        runner = cast(TensorRtBackend, detector._backend)._runner
        assert runner is not None
        stack.enter_context(session.current())
        bound = EngineNetwork(runner, detector.model.input).bind(session, 1, 1)
        stack.callback(bound.close)
        _write_input(session, bound, blob)
        # The first run loads kernels, which a recording does not allow.
        bound.enqueue()
        session.synchronize()
        graphs = [_graph(session, bound, frame) for frame in locked]
        for graph in graphs:
            stack.callback(graph.close)

        def run(index: int) -> dict[str, int]:
            start_ns = time.monotonic_ns()
            graphs[index % DISTINCT].launch(session.stream_handle)
            session.synchronize()
            return {"total": time.monotonic_ns() - start_ns}

        yield run


def _write_input(session: FrameSession, bound: BoundEngine, blob: Float32Array) -> None:
    content = blob.astype(bound.input.dtype).reshape(-1).view(np.uint8)
    staged = session.host_memory(content.size)
    staged.array[...] = content
    session.upload(bound.input.address, staged.address, content.size)
    session.synchronize()
    staged.close()


def _graph(session: FrameSession, bound: BoundEngine, frame: LockedFrame) -> Graph:
    with GraphRecording(session.stream_handle) as recording:
        session.upload(frame.device, frame.host, frame.pixels.nbytes)
        bound.enqueue()
    return recording.graph()
