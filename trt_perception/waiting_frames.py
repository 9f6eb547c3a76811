"""The waiting slots of all cameras: the newest frame of each, and which of them are taken next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from trt_perception.camera_turns import CameraTurns
from trt_perception.live_frames import Batching, Channel, FrameCounts, Message, Received


@dataclass(frozen=True, eq=False)
class Taken(Generic[Message]):
    """A frame whose turn has come. camera: its channel's number; taken_ns: time.monotonic_ns."""

    camera: int
    channel: Channel[Message]
    frame: Received[Message]
    taken_ns: int


class WaitingFrames(Generic[Message]):
    """Cameras offer frames on their threads, and one thread takes them, between open() and close()."""

    def __init__(self, channels: Sequence[Channel[Message]], turns: CameraTurns, batching: Batching) -> None:
        self._channels = list(channels)
        self._turns = turns
        self._batching = batching
        self._open = False
        self._enabled = True
        self._wake = threading.Condition()

    @property
    def enabled(self) -> bool:
        """False while frames are put aside."""
        return self._enabled

    def limit(self, max_batch: int | None) -> int:
        """How many frames go together at most; max_batch: what the network takes, None for any number."""
        return self._batching.limit(len(self._channels), max_batch)

    def any_waiting(self) -> bool:
        """True when a frame waits."""
        return any(channel.waiting for channel in self._channels)

    def open(self) -> None:
        """Takes frames in from now on, with all counts at zero."""
        with self._wake:
            for channel in self._channels:
                channel.counts = FrameCounts()
                channel.waiting = None
            self._open = True

    def close(self) -> None:
        """take() returns nothing from now on; what is offered is counted as paused."""
        with self._wake:
            self._open = False
            self._wake.notify()

    def put_aside(self) -> None:
        """Counts the frames that wait as paused."""
        with self._wake:
            self._put_aside()

    def set_enabled(self, enabled: bool) -> None:
        """Pauses (frames are received and put aside as paused) or resumes."""
        with self._wake:
            self._enabled = enabled
            if not enabled:
                self._put_aside()

    def offer(self, channel: Channel[Message], message: Message) -> None:
        """Takes the newest frame of a camera in; one that still waits is counted as superseded. Never blocks."""
        frame = Received(message, time.monotonic_ns())
        with self._wake:
            channel.counts.received += 1
            if not (self._open and self._enabled):
                channel.counts.paused += 1
                return
            if channel.waiting is not None:
                channel.counts.superseded += 1
            else:
                channel.waiting_since_ns = frame.received_ns
            channel.waiting = frame
            self._wake.notify()

    def take(self, max_batch: Callable[[], int | None]) -> list[Taken[Message]]:
        """Waits for frames, and gives those of the cameras whose turn it is; none after close().

        max_batch: what the network takes at once by now, None for any number.
        """
        with self._wake:
            while self._open:
                waiting = [i for i, channel in enumerate(self._channels) if channel.waiting is not None]
                limit = self.limit(max_batch())
                wait_ns = self._left_to_wait_ns() if 0 < len(waiting) < limit else 0
                if waiting and wait_ns <= 0:
                    now_ns = time.monotonic_ns()
                    return [self._taken(camera, now_ns) for camera in self._turns.in_order(waiting)[:limit]]
                self._wake.wait(wait_ns / 1e9 if waiting else None)
        return []

    def _put_aside(self) -> None:
        for channel in self._channels:
            if channel.waiting is not None:
                channel.waiting = None
                channel.counts.paused += 1

    def _left_to_wait_ns(self) -> int:
        # Not from when the newest frames came: a camera that is faster than the wait would begin it again and again.
        first_ns = min(channel.waiting_since_ns for channel in self._channels if channel.waiting is not None)
        return first_ns + self._batching.max_wait_ns - time.monotonic_ns()

    def _taken(self, camera: int, now_ns: int) -> Taken[Message]:
        channel = self._channels[camera]
        frame, channel.waiting = channel.waiting, None
        assert frame is not None, "looked at under the same lock"
        return Taken(camera, channel, frame, now_ns)
