"""A camera's frames on their way through live inference, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trt_perception.encodings import decode_frame
from trt_perception.errors import PerceptionError
from trt_perception.model_file import ModelFile
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import FrameResult, Image

Message = TypeVar("Message")


@dataclass(frozen=True, eq=False)
class Received(Generic[Message]):
    """A camera's message and when it came (time.monotonic_ns)."""

    message: Message
    received_ns: int


@dataclass(frozen=True, eq=False)
class Processed(Generic[Message]):
    """A frame that went through the detector. All times ending in _ns are time.monotonic_ns or durations.

    backend_index: place, in the list of backends, of the one that ran; 0 is the one that was wanted.
    """

    message: Message
    frame: Image | CameraFrame
    model: ModelFile
    result: FrameResult
    received_ns: int
    queue_wait_ns: int
    decode_ns: int
    backend_index: int = 0

    def image(self) -> Image:
        """The picture, decoded now where the detector took the camera's bytes as they were."""
        return self.frame if isinstance(self.frame, Image) else decode_frame(self.frame)


@dataclass
class FrameCounts:
    """What became of the frames since activation: received = all the others together, one that may wait, and one
    that may be in work; after stop() all the others together.

    superseded: a newer one came before it was taken. stale: too old when taken. skipped: the share of inference was
    used up. paused: inference was switched off or stopped. malformed: no picture in it. failed: network or backend
    failed.
    """

    received: int = 0
    processed: int = 0
    superseded: int = 0
    stale: int = 0
    skipped: int = 0
    paused: int = 0
    malformed: int = 0
    failed: int = 0

    @property
    def dropped(self) -> int:
        """Good frames that were received while inference was on, and not looked at."""
        return self.superseded + self.stale + self.skipped


@dataclass(eq=False)
class Channel(Generic[Message]):
    """One camera's way through the node: a waiting slot for one frame, and what to do with it.

    decode: message → picture or undecoded frame, raises ImageError. is_fresh: False for a frame that is too old to be
    looked at. deliver: hands the result out. report: takes an error about one frame. waiting_since_ns: when the slot
    was filled (time.monotonic_ns); a newer frame that takes the place of the one in it does not change it.
    """

    name: str
    decode: Callable[[Message], Image | CameraFrame]
    is_fresh: Callable[[Received[Message]], bool]
    deliver: Callable[[Processed[Message], FrameCounts], None]
    report: Callable[[PerceptionError], None]
    counts: FrameCounts = field(default_factory=FrameCounts)
    waiting: Received[Message] | None = None
    waiting_since_ns: int = 0


@dataclass(frozen=True)
class Batching:
    """How frames of several cameras share a run of the network; it cannot help where there is one camera.

    max_frames: in one run; 0 for as many as there are cameras. max_wait_ns: how long the first waits for the others,
    from when it came, whatever newer ones take its place meanwhile; 0 to take what is there.
    """

    max_frames: int = 0
    max_wait_ns: int = 0

    def limit(self, cameras: int, of_detector: int | None) -> int:
        """How many frames of so many cameras go together at most; of_detector: what its network takes, None for any."""
        return min(limit for limit in (cameras, self.max_frames, of_detector) if limit)
