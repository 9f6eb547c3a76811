"""What the short way asks of a library that runs networks on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trt_perception.backends.cuda_frames.session import FrameSession


@dataclass(frozen=True)
class DeviceTensor:
    """dtype: NumPy's name; shape: whole, the batch in front; address: on the device, contiguous."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    address: int


class BoundNetwork(Protocol):
    """A network whose tensors lie at addresses that do not change, on one session's stream."""

    @property
    def input(self) -> DeviceTensor:
        """(batch, channels, height, width), which somebody else writes."""
        ...

    @property
    def channels_last(self) -> bool:
        """The input's channels lie side by side in memory."""
        ...

    @property
    def outputs(self) -> tuple[DeviceTensor, ...]:
        """What an inference writes."""
        ...

    @property
    def recordable(self) -> bool:
        """True: enqueue() may be recorded with the stream as part of a CUDA graph. False: it launches by itself."""
        ...

    @property
    def is_stale(self) -> bool:
        """True: what was recorded of it does not hold any more, and enqueue() is to be recorded again."""
        ...

    def enqueue(self) -> None:
        """Queues one inference, or does it; raises BackendError."""
        ...

    def close(self) -> None:
        """Frees the tensors; the stream is idle and the context current. A second call does nothing."""
        ...


class DeviceNetwork(Protocol):
    """An opened network that can be bound several times.

    input_dtype: float32, float16 or uint8. batches: the smallest and the largest number of pictures in one run.
    """

    @property
    def input_dtype(self) -> str:
        """Of every bound network's input."""
        ...

    @property
    def batches(self) -> tuple[int, int]:
        """(1, 1): one picture, (1, 8): up to eight, (4, 4): always four."""
        ...

    @property
    def no_graph_reason(self) -> str | None:
        """Why inference cannot be recorded, None as far as is known; each bind() may find out."""
        ...

    def bind(self, session: FrameSession, batch: int, index: int) -> BoundNetwork:
        """Tensors and whatever an inference of that batch needs, on the session's stream, ready to run.

        index: 0 for the session that the caller was given, 1, 2, ... for those of further streams, whose inferences
        overlap with the others'. Called with the context current. Raises BackendError.
        """
        ...
