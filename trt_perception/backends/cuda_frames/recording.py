"""CUDA graphs: what is queued on a stream is recorded once and launched as one unit from then on."""

from __future__ import annotations

import ctypes
from typing import Any

from trt_perception.backends.cuda_frames.driver import call, quick, require_success

# cuda.h: CU_STREAM_CAPTURE_MODE_THREAD_LOCAL leaves other threads' allocations alone.
_CAPTURE_THREAD_LOCAL = 1
# CU_STREAM_CAPTURE_STATUS_ACTIVE, CU_STREAM_SET_CAPTURE_DEPENDENCIES.
_CAPTURING, _SET_DEPENDENCIES = 1, 1


class Graph:
    """Work recorded from a stream once and launched as one unit from then on (CUDA 11.4 and newer)."""

    def __init__(self, executable: ctypes.c_void_p) -> None:
        self._executable = executable
        self._launch = quick("cuGraphLaunch")

    def launch(self, stream: int) -> None:
        """Queues the recorded work."""
        if code := self._launch(self._executable, stream):
            require_success("cuGraphLaunch", code)

    def close(self) -> None:
        """Gives the graph back; a second call does nothing."""
        if self._executable:
            call("cuGraphExecDestroy", self._executable)
            self._executable = ctypes.c_void_p()


class GraphRecording:
    """`with GraphRecording(stream) as recording:` what is queued inside is recorded, not run; then `graph()`."""

    def __init__(self, stream: int) -> None:
        self._stream = ctypes.c_void_p(stream)
        self._recorded = ctypes.c_void_p()

    def __enter__(self) -> GraphRecording:
        call("cuStreamBeginCapture_v2", self._stream, _CAPTURE_THREAD_LOCAL)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # The stream stays unusable until the recording has ended, also after a failure inside it.
        if kind is None:
            call("cuStreamEndCapture", self._stream, ctypes.byref(self._recorded))
        else:
            quick("cuStreamEndCapture")(self._stream, ctypes.byref(self._recorded))
            self._drop_recorded()

    def graph(self) -> Graph:
        """The recorded work, ready to be launched; the caller closes it."""
        executable = ctypes.c_void_p()
        try:
            call("cuGraphInstantiateWithFlags", ctypes.byref(executable), self._recorded, 0)
        finally:
            self._drop_recorded()
        return Graph(executable)

    def _drop_recorded(self) -> None:
        if self._recorded:
            call("cuGraphDestroy", self._recorded)
            self._recorded = ctypes.c_void_p()


def add_to_recording(stream: int, graph: int) -> bool:
    """A copy of a CUgraph becomes the next step of what is recorded on the stream; False where nothing is."""
    status, number = ctypes.c_int(), ctypes.c_uint64()
    into, node, last, count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
    found: tuple[Any, ...] = (status, number, into, last, count)
    call("cuStreamGetCaptureInfo_v2", stream, *(ctypes.byref(place) for place in found))
    if status.value != _CAPTURING:
        return False
    call("cuGraphAddChildGraphNode", ctypes.byref(node), into, last, count.value, graph)
    call("cuStreamUpdateCaptureDependencies", stream, ctypes.byref(node), 1, _SET_DEPENDENCIES)
    return True
