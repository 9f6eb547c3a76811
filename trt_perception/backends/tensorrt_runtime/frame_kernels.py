"""The kernels of data/cuda/frame_kernels.ptx, launched on a session's stream."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from trt_perception.backends.tensorrt_runtime.cuda_session import CudaModule, CudaSession
from trt_perception.backends.tensorrt_runtime.kernel_structs import GROUPS, InputStruct, OutputStruct

_PTX = "data/cuda/frame_kernels.ptx"
_TILE = (32, 8)
_BOXES_A_BLOCK = 32
_SUPPRESS_THREADS = 256


class FrameKernels:
    """One loaded module; used under the session's context."""

    def __init__(self, session: CudaSession) -> None:
        """Raises BackendError where the driver does not take the PTX."""
        ptx = resources.files("trt_perception").joinpath(_PTX).read_bytes()
        # The driver reads up to a zero.
        self._module: CudaModule = session.module(ptx + b"\0")

    def prepare(
        self, session: CudaSession, staged: int, frame_stride: int, tensor: int, given: InputStruct, batch: int
    ) -> None:
        """Staged frames, frame_stride bytes apart, become the input tensor; addresses are the device's."""
        grid = (-(-given.width // _TILE[0]), -(-given.height // _TILE[1]), batch)
        arguments = [("P", staged), ("Q", frame_stride), ("P", tensor), _by_value(given)]
        self._module.launch(session, "prepare", grid, (*_TILE, 1), arguments)

    def choose(self, session: CudaSession, output: OutputStruct, places: Sequence[int], batch: int) -> None:
        """Raw outputs become detections, one result an image.

        places: addresses of the choice, the candidates, the counters, which are zero before the first call, and the
        results.
        """
        *inner, results = (("P", place) for place in places)
        common = [_by_value(output), *inner]
        groups = GROUPS if output.classes > 1 else 1
        grid = (-(-output.boxes // _BOXES_A_BLOCK), batch, 1)
        self._module.launch(session, "gather", grid, (_BOXES_A_BLOCK, groups, 1), common)
        self._module.launch(session, "suppress", (batch, 1, 1), (_SUPPRESS_THREADS, 1, 1), [*common, results])

    def close(self) -> None:
        """Unloads the kernels; a second call does nothing."""
        self._module.close()


def _by_value(struct: InputStruct | OutputStruct) -> tuple[str, bytes]:
    raw = bytes(struct)
    return f"{len(raw)}s", raw
