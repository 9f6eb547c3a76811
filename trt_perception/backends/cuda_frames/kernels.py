"""The kernels of data/cuda/frame_kernels.ptx, launched on a session's stream."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib import resources

from trt_perception.backends.cuda_frames.session import Argument, FrameSession
from trt_perception.backends.cuda_frames.structs import GROUPS, InputStruct, OutputStruct

_PTX = "data/cuda/frame_kernels.ptx"
_TILE = (32, 8)
_BOXES_A_BLOCK = 32
_SUPPRESS_THREADS = 256


class FrameKernels:
    """One loaded module; used under the session's context."""

    def __init__(self, session: FrameSession) -> None:
        """Raises BackendError where the driver does not take the PTX."""
        self._module = session.module(resources.files("trt_perception").joinpath(_PTX).read_bytes())

    def prepare(
        self,
        session: FrameSession,
        staged: int,
        frame_stride: int,
        tensor: int,
        times: int,
        given: InputStruct,
        batch: int,
    ) -> None:
        """Staged frames, frame_stride bytes apart, become the input tensor; addresses are the device's.

        times: where the device notes when it came to each point of a run.
        """
        grid = (-(-given.width // _TILE[0]), -(-given.height // _TILE[1]), batch)
        arguments: list[Argument] = [ctypes.c_uint64(value) for value in (staged, frame_stride, tensor, times)]
        arguments.append(given)
        self._module.launch(session.stream_handle, "prepare", grid, (*_TILE, 1), arguments)

    def choose(self, session: FrameSession, output: OutputStruct, places: Sequence[int], batch: int) -> None:
        """Raw outputs become detections, one result an image.

        places: addresses of the choice, the candidates, the counters, which are zero before the first call, the times
        and the results.
        """
        *inner, results = [ctypes.c_uint64(place) for place in places]
        common: list[Argument] = [output, *inner]
        groups = GROUPS if output.classes > 1 else 1
        grid = (-(-output.boxes // _BOXES_A_BLOCK), batch, 1)
        stream = session.stream_handle
        self._module.launch(stream, "gather", grid, (_BOXES_A_BLOCK, groups, 1), common)
        self._module.launch(stream, "suppress", (batch, 1, 1), (_SUPPRESS_THREADS, 1, 1), [*common, results])

    def mark(self, session: FrameSession, times: int, step: int, results: int) -> None:
        """Notes the time where outputs come down as they are; step: 2 behind the network, 3 behind the copies."""
        arguments: list[Argument] = [ctypes.c_uint64(times), ctypes.c_int(step), ctypes.c_uint64(results)]
        self._module.launch(session.stream_handle, "mark", (1, 1, 1), (1, 1, 1), arguments)

    def close(self) -> None:
        """Unloads the kernels; a second call does nothing."""
        self._module.close()
