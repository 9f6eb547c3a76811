"""Live inference: cameras offer frames, one thread takes the newest of each and never lets a queue grow.

Frames of several cameras that are ready together go through the network together, where it takes several.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from trt_perception.camera_turns import CameraTurns
from trt_perception.control_budget.governor import InferenceGovernor
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.errors import ImageError, OutputError, PerceptionError
from trt_perception.live_frames import Batching, Channel, Message, Processed
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import FrameResult, Image
from trt_perception.waiting_frames import Taken, WaitingFrames

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Decoded(Generic[Message]):
    """A frame that is good to be looked at."""

    taken: Taken[Message]
    picture: Image | CameraFrame
    decode_ns: int


class InferenceObserver(Protocol):
    """Learns of every inference, on the inference thread."""

    def began(self) -> None:
        """A frame, or several together, are given to the detector."""

    def ended(self, error: Exception | None) -> None:
        """The detector has returned, or raised the error."""


class LivePipeline(Generic[Message]):
    """Owns the inference thread and the detector between start() and stop().

    governor: refuses frames, of all cameras together, that would take more than its share of the time. observer: is
    told of every inference. A batch is one inference to both: it keeps the device busy once. at_rest: called on the
    inference thread after a frame when no other waits.
    """

    def __init__(
        self,
        channels: Sequence[Channel[Message]],
        detector: Detector,
        governor: InferenceGovernor | None = None,
        observer: InferenceObserver | None = None,
        batching: Batching | None = None,
        at_rest: Callable[[], None] | None = None,
    ) -> None:
        self._turns = CameraTurns(len(channels))
        self._waiting = WaitingFrames(channels, self._turns, batching or Batching())
        self._detector = detector
        self._governor = governor or InferenceGovernor(0.0)
        self._observer = observer
        self._at_rest = at_rest
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
        return self._waiting.enabled

    def start(self) -> None:
        """Starts the inference thread with all counts at zero; a second call does nothing."""
        if self._thread is not None:
            return
        self._waiting.open()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the frame it is at; one that waits is counted as paused. A second call does nothing."""
        self._waiting.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._waiting.put_aside()

    def set_enabled(self, enabled: bool) -> None:
        """Pauses (frames are received and put aside as paused) or resumes."""
        self._waiting.set_enabled(enabled)

    def offer(self, channel: Channel[Message], message: Message) -> None:
        """Takes the newest frame of a camera; one that still waits is counted as superseded. Never blocks."""
        self._waiting.offer(channel, message)

    def replace_detector(self, detector: Detector) -> Detector:
        """Puts another detector in between two frames and returns the old one, which the caller closes."""
        with self._in_detector:
            old, self._detector = self._detector, detector
        return old

    def _run(self) -> None:
        while taken := self._waiting.take(lambda: self._detector.max_batch):
            self._process(taken)
            if self._at_rest is not None and not self._waiting.any_waiting():
                self._at_rest()

    def _process(self, taken: Sequence[Taken[Message]]) -> None:
        good: list[_Decoded[Message]] = []
        at_hand = [entry.camera for entry in taken]
        for entry in taken:
            with _accounting(entry.channel):
                if (decoded := self._decoded(entry, at_hand)) is not None:
                    good.append(decoded)
        for frame in good:
            self._turns.served(frame.taken.camera)
        if good:
            self._detect_all(good)

    def _decoded(self, entry: Taken[Message], at_hand: Sequence[int]) -> _Decoded[Message] | None:
        """None for a frame that is not to be looked at, and is counted as such."""
        counts = entry.channel.counts
        if not entry.channel.is_fresh(entry.frame):
            counts.stale += 1
            return None
        allowed = self._governor.allows(entry.taken_ns, ahead=self._turns.ahead(entry.camera))
        if not allowed or self._turns.gives_way(entry.camera, at_hand):
            self._turns.refused(entry.camera)
            counts.skipped += 1
            return None
        start_ns = time.monotonic_ns()
        picture = entry.channel.decode(entry.frame.message)
        # A detector that is put in meanwhile and does not take this encoding decodes it itself.
        if isinstance(picture, CameraFrame) and not self._detector.takes(picture):
            picture = decode_frame(picture)
        return _Decoded(entry, picture, time.monotonic_ns() - start_ns)

    def _detect_all(self, frames: Sequence[_Decoded[Message]]) -> None:
        try:
            processed = self._detect(frames)
        except Exception as error:
            if isinstance(error, (ImageError, OutputError)) and len(frames) > 1:
                # One of them is no picture, or what the network made of it is none: the others do not suffer for it.
                for frame in frames:
                    self._detect_all([frame])
                return
            for frame in frames:
                with _accounting(frame.taken.channel):
                    raise error
            return
        for frame, result in zip(frames, processed, strict=True):
            channel = frame.taken.channel
            channel.counts.processed += 1
            try:
                channel.deliver(result, channel.counts)
            # A thread that died of one frame would look, for ever after, like a scene with nothing in it.
            except Exception as error:
                log.exception("an unexpected error while a frame of %s was handed out", channel.name)
                channel.report(_unexpected(error))

    def _detect(self, frames: Sequence[_Decoded[Message]]) -> list[Processed[Message]]:
        with self._in_detector:
            detector = self._detector
            # One that was put in meanwhile may take fewer at once.
            limit = self._waiting.limit(detector.max_batch)
            results: list[FrameResult] = []
            for first in range(0, len(frames), limit):
                results += self._observed(detector, [frame.picture for frame in frames[first : first + limit]])
        return [
            Processed(
                frame.taken.frame.message,
                frame.picture,
                detector.model,
                result,
                frame.taken.frame.received_ns,
                frame.taken.taken_ns - frame.taken.frame.received_ns,
                frame.decode_ns,
                detector.backend_index,
            )
            for frame, result in zip(frames, results, strict=True)
        ]

    def _observed(self, detector: Detector, pictures: Sequence[Image | CameraFrame]) -> list[FrameResult]:
        if self._observer is not None:
            self._observer.began()
        start_ns = time.monotonic_ns()
        try:
            results = detector.detect_batch(pictures)
        except Exception as error:
            if isinstance(error, OutputError):
                # The network ran all the same.
                self._governor.finished(start_ns, time.monotonic_ns())
            if self._observer is not None:
                self._observer.ended(error)
            raise
        if self._observer is not None:
            self._observer.ended(None)
        # Every result of a batch has the same interval.
        times = results[0].times
        self._governor.finished(times.inference_start_ns, times.inference_start_ns + times.busy_ns)
        return results


@contextmanager
def _accounting(channel: Channel[Any]) -> Iterator[None]:
    """Counts and reports what is raised by a frame of that camera."""
    try:
        yield
    except ImageError as error:
        channel.counts.malformed += 1
        channel.report(error)
    except PerceptionError as error:
        channel.counts.failed += 1
        channel.report(error)
    except Exception as error:  # as where a result is handed out
        log.exception("an unexpected error in a frame of %s", channel.name)
        channel.counts.failed += 1
        channel.report(_unexpected(error))


def _unexpected(error: Exception) -> PerceptionError:
    return PerceptionError(f"unexpected {type(error).__name__}: {error}; the log has the traceback, please report it")
