"""Live inference: cameras offer frames, one thread takes the newest of each in turn and never lets a queue grow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from trt_perception.control_budget.governor import InferenceGovernor
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.errors import ImageError, PerceptionError
from trt_perception.model_file import ModelFile
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import FrameResult, Image

Message = TypeVar("Message")
log = logging.getLogger(__name__)


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
    looked at. deliver: hands the result out. report: takes an error about one frame.
    """

    name: str
    decode: Callable[[Message], Image | CameraFrame]
    is_fresh: Callable[[Received[Message]], bool]
    deliver: Callable[[Processed[Message], FrameCounts], None]
    report: Callable[[PerceptionError], None]
    counts: FrameCounts = field(default_factory=FrameCounts)
    waiting: Received[Message] | None = None


class InferenceObserver(Protocol):
    """Learns of every inference, on the inference thread."""

    def began(self) -> None:
        """A frame is given to the detector."""

    def ended(self, error: Exception | None) -> None:
        """The detector has returned, or raised the error."""


class LivePipeline(Generic[Message]):
    """Owns the inference thread and the detector between start() and stop().

    governor: refuses frames, of all cameras together, that would take more than its share of the time. observer: is
    told of every inference.
    """

    def __init__(
        self,
        channels: Sequence[Channel[Message]],
        detector: Detector,
        governor: InferenceGovernor | None = None,
        observer: InferenceObserver | None = None,
    ) -> None:
        self._channels = list(channels)
        self._detector = detector
        self._governor = governor or InferenceGovernor(0.0)
        self._observer = observer
        self._running = False
        self._enabled = True
        self._next = 0
        self._wake = threading.Condition()
        # Held while a frame is inside the detector, so that a new one is put in between two frames.
        self._in_detector = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def detector(self) -> Detector:
        """The one that the next frame will use."""
        return self._detector

    @property
    def enabled(self) -> bool:
        """False while inference is paused."""
        return self._enabled

    def start(self) -> None:
        """Starts the inference thread with all counts at zero; a second call does nothing."""
        if self._thread is not None:
            return
        for channel in self._channels:
            channel.counts = FrameCounts()
            channel.waiting = None
        self._running = True
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the frame it is at; one that waits is counted as paused. A second call does nothing."""
        with self._wake:
            self._running = False
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with self._wake:
                self._put_waiting_aside()

    def set_enabled(self, enabled: bool) -> None:
        """Pauses (frames are received and put aside as paused) or resumes."""
        with self._wake:
            self._enabled = enabled
            if not enabled:
                self._put_waiting_aside()

    def offer(self, channel: Channel[Message], message: Message) -> None:
        """Takes the newest frame of a camera; one that still waits is counted as superseded. Never blocks."""
        frame = Received(message, time.monotonic_ns())
        with self._wake:
            channel.counts.received += 1
            if not (self._running and self._enabled):
                channel.counts.paused += 1
                return
            if channel.waiting is not None:
                channel.counts.superseded += 1
            channel.waiting = frame
            self._wake.notify()

    def replace_detector(self, detector: Detector) -> Detector:
        """Puts another detector in between two frames and returns the old one, which the caller closes."""
        with self._in_detector:
            old, self._detector = self._detector, detector
        return old

    def _put_waiting_aside(self) -> None:
        for channel in self._channels:
            if channel.waiting is not None:
                channel.waiting = None
                channel.counts.paused += 1

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            channel, frame = taken
            try:
                self._process(channel, frame)
            # A thread that died of one frame would look, for ever after, like a scene with nothing in it.
            except Exception as error:
                log.exception("an unexpected error while a frame of %s was handed out", channel.name)
                channel.report(_unexpected(error))

    def _take(self) -> tuple[Channel[Message], Received[Message]] | None:
        """The waiting frame of the camera whose turn it is; None when the thread is to end."""
        with self._wake:
            while self._running:
                for step in range(len(self._channels)):
                    index = (self._next + step) % len(self._channels)
                    channel = self._channels[index]
                    if channel.waiting is not None:
                        frame, channel.waiting = channel.waiting, None
                        self._next = index + 1
                        return channel, frame
                self._wake.wait()
        return None

    def _process(self, channel: Channel[Message], frame: Received[Message]) -> None:
        try:
            taken_ns = time.monotonic_ns()
            if not channel.is_fresh(frame):
                channel.counts.stale += 1
                return
            if not self._governor.allows(taken_ns):
                channel.counts.skipped += 1
                return
            processed = self._detect(channel, frame, taken_ns)
        except ImageError as error:
            channel.counts.malformed += 1
            channel.report(error)
            return
        except PerceptionError as error:
            channel.counts.failed += 1
            channel.report(error)
            return
        except Exception as error:  # as in _run
            log.exception("an unexpected error in a frame of %s", channel.name)
            channel.counts.failed += 1
            channel.report(_unexpected(error))
            return
        channel.counts.processed += 1
        channel.deliver(processed, channel.counts)

    def _detect(self, channel: Channel[Message], frame: Received[Message], taken_ns: int) -> Processed[Message]:
        start_ns = time.monotonic_ns()
        picture = channel.decode(frame.message)
        # A detector that is put in meanwhile and does not take this encoding decodes it itself.
        if isinstance(picture, CameraFrame) and not self._detector.takes(picture):
            picture = decode_frame(picture)
        decode_ns = time.monotonic_ns() - start_ns
        with self._in_detector:
            model, backend_index = self._detector.model, self._detector.backend_index
            result = self._observed(self._detector, picture)
        times = result.times
        self._governor.finished(times.inference_start_ns, times.inference_start_ns + times.busy_ns)
        queue_wait_ns = taken_ns - frame.received_ns
        return Processed(
            frame.message, picture, model, result, frame.received_ns, queue_wait_ns, decode_ns, backend_index
        )

    def _observed(self, detector: Detector, picture: Image | CameraFrame) -> FrameResult:
        if self._observer is None:
            return detector.detect(picture)
        self._observer.began()
        try:
            result = detector.detect(picture)
        except Exception as error:
            self._observer.ended(error)
            raise
        self._observer.ended(None)
        return result


def _unexpected(error: Exception) -> PerceptionError:
    return PerceptionError(f"unexpected {type(error).__name__}: {error}; the log has the traceback, please report it")
