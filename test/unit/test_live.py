"""The live pipeline with real threads: the newest frame wins, and every frame is accounted for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import cast

import numpy as np
import pytest

from trt_perception.control_budget.governor import InferenceGovernor
from trt_perception.detector import Detector
from trt_perception.errors import BackendError, ImageError, PerceptionError
from trt_perception.live import Channel, FrameCounts, LivePipeline, Processed, Received
from trt_perception.types import Detections, FrameResult, Image, StageTimes

WAIT_S = 30  # only a broken pipeline waits so long


class StubDetector:
    """Stops at a gate in each frame, so that a test decides how long an inference takes."""

    def __init__(self, name: str = "first", *, open_gate: bool = True) -> None:
        self.model = name
        self.backend_index = 0
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.open_gate = open_gate
        self.seen: list[int] = []
        self.failures: dict[int, Exception] = {}
        self.inside = 0

    def detect(self, image: Image) -> FrameResult:
        self.inside += 1
        assert self.inside == 1
        try:
            self.entered.release()
            if not self.open_gate:
                assert self.gate.acquire(timeout=WAIT_S)
            number = int(image.pixels[0, 0, 0])
            self.seen.append(number)
            if number in self.failures:
                raise self.failures[number]
            return FrameResult(Detections.none(), StageTimes(1, 1, 1, 0))
        finally:
            self.inside -= 1


class Camera:
    """A channel whose messages are numbers."""

    def __init__(self, name: str = "camera") -> None:
        self.delivered: list[Processed[int]] = []
        self.errors: list[PerceptionError] = []
        self.happened = threading.Condition()
        self.is_fresh: Callable[[Received[int]], bool] = lambda frame: True
        self.on_deliver: Callable[[Processed[int]], None] = lambda frame: None
        self.channel = Channel[int](name, self.decode, lambda frame: self.is_fresh(frame), self.deliver, self.report)

    def decode(self, number: int) -> Image:
        if number < 0:
            raise ImageError(f"width is {number}")
        return Image(np.full((1, 1, 1), number % 256, np.uint8), "gray")

    def deliver(self, frame: Processed[int], counts: FrameCounts) -> None:
        with self.happened:
            self.delivered.append(frame)
            self.happened.notify_all()
        self.on_deliver(frame)

    def report(self, error: PerceptionError) -> None:
        with self.happened:
            self.errors.append(error)
            self.happened.notify_all()

    def wait_for(self, deliveries: int = 0, errors: int = 0) -> None:
        with self.happened:
            assert self.happened.wait_for(
                lambda: len(self.delivered) >= deliveries and len(self.errors) >= errors, timeout=WAIT_S
            )

    @property
    def counts(self) -> FrameCounts:
        return self.channel.counts


@contextmanager
def running(
    cameras: list[Camera], detector: StubDetector, governor: InferenceGovernor | None = None
) -> Iterator[LivePipeline[int]]:
    pipeline = LivePipeline([c.channel for c in cameras], cast(Detector, detector), governor)
    pipeline.start()
    try:
        yield pipeline
    finally:
        detector.open_gate = True
        detector.gate.release(1000)
        pipeline.stop()


def assert_balanced(counts: FrameCounts) -> None:
    others = sum(getattr(counts, f.name) for f in fields(counts) if f.name != "received")
    assert counts.received == others, counts


def test_one_frame_goes_through() -> None:
    camera, detector = Camera(), StubDetector()
    with running([camera], detector) as pipeline:
        pipeline.offer(camera.channel, 5)
        camera.wait_for(deliveries=1)
    frame = camera.delivered[0]
    assert (frame.message, str(frame.model)) == (5, "first")
    assert frame.image().pixels[0, 0, 0] == 5
    assert frame.queue_wait_ns >= 0
    assert camera.counts == FrameCounts(received=1, processed=1)


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    camera, detector = Camera(), StubDetector(open_gate=False)
    with running([camera], detector) as pipeline:
        pipeline.offer(camera.channel, 0)
        assert detector.entered.acquire(timeout=WAIT_S)  # frame 0 is in the detector
        for number in range(1, 11):
            pipeline.offer(camera.channel, number)
        assert camera.counts.superseded == 9
        detector.gate.release(2)
        camera.wait_for(deliveries=2)
    assert detector.seen == [0, 10]
    assert camera.counts == FrameCounts(received=11, processed=2, superseded=9)
    assert camera.counts.dropped == 9


def test_a_flood_from_several_threads_balances() -> None:
    cameras, detector = [Camera("a"), Camera("b"), Camera("c")], StubDetector()
    each, floods = 400, 4

    def flood(camera: Camera, offset: int) -> None:
        for number in range(each):
            pipeline.offer(camera.channel, number if number % 7 else -1 - offset)

    with running(cameras, detector) as pipeline:
        threads = [threading.Thread(target=flood, args=(c, i)) for c in cameras for i in range(floods)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for camera in cameras:
            pipeline.offer(camera.channel, 1)
            camera.wait_for(deliveries=1)
    for camera in cameras:
        assert camera.counts.received == each * floods + 1
        assert_balanced(camera.counts)
        assert camera.counts.processed == len(camera.delivered)
        assert camera.counts.malformed == len(camera.errors)


def test_cameras_take_turns() -> None:
    cameras, detector = [Camera("a"), Camera("b"), Camera("c")], StubDetector(open_gate=False)
    with running(cameras, detector) as pipeline:
        pipeline.offer(cameras[0].channel, 0)
        assert detector.entered.acquire(timeout=WAIT_S)
        # While the first frame is worked on, camera a offers more than the others do.
        for round_ in range(1, 4):
            pipeline.offer(cameras[0].channel, 10 * round_)
        pipeline.offer(cameras[1].channel, 101)
        pipeline.offer(cameras[2].channel, 102)
        for _ in range(4):
            detector.gate.release()
        for camera, count in zip(cameras, (2, 1, 1), strict=True):
            camera.wait_for(deliveries=count)
    assert detector.seen == [0, 101, 102, 30]


def test_another_detector_comes_in_between_two_frames() -> None:
    camera, first, second = Camera(), StubDetector("first", open_gate=False), StubDetector("second")
    with running([camera], first) as pipeline:
        pipeline.offer(camera.channel, 1)
        assert first.entered.acquire(timeout=WAIT_S)
        replaced: list[object] = []
        switch = threading.Thread(target=lambda: replaced.append(pipeline.replace_detector(cast(Detector, second))))
        switch.start()
        assert not replaced  # frame 1 is still in the first one
        first.gate.release()
        switch.join(WAIT_S)
        pipeline.offer(camera.channel, 2)
        camera.wait_for(deliveries=2)
        assert cast(object, pipeline.detector) is second
    assert replaced == [first]
    assert [(f.message, str(f.model)) for f in camera.delivered] == [(1, "first"), (2, "second")]
    assert (first.seen, second.seen) == ([1], [2])


def test_a_switch_under_load_loses_no_frame_and_never_runs_two_detectors() -> None:
    camera, detectors = Camera(), [StubDetector(str(i)) for i in range(20)]
    done = threading.Event()

    def flood() -> None:
        number = 0
        while not done.is_set():
            pipeline.offer(camera.channel, number % 200)
            number += 1

    with running([camera], detectors[0]) as pipeline:
        thread = threading.Thread(target=flood)
        thread.start()
        for old, new in itertools.pairwise(detectors):
            before = len(camera.delivered)
            assert pipeline.replace_detector(cast(Detector, new)) is cast(object, old)
            seen_by_old = len(old.seen)
            camera.wait_for(deliveries=before + 3)
            assert len(old.seen) == seen_by_old  # closed by now: it must not be used any more
        done.set()
        thread.join()
    assert_balanced(camera.counts)
    assert camera.counts.processed == sum(len(d.seen) for d in detectors)
    models = [str(f.model) for f in camera.delivered]
    assert models == sorted(models, key=int)


def test_errors_are_counted_and_told_and_the_next_frame_is_processed() -> None:
    camera, detector = Camera(), StubDetector()
    detector.failures = {1: BackendError("no device"), 2: ImageError("odd"), 3: ZeroDivisionError("a defect")}
    with running([camera], detector) as pipeline:
        for count, number in enumerate((-1, 1, 2, 3), start=1):
            pipeline.offer(camera.channel, number)
            camera.wait_for(errors=count)
        pipeline.offer(camera.channel, 4)
        camera.wait_for(deliveries=1)
    assert camera.counts == FrameCounts(received=5, processed=1, malformed=2, failed=2)
    assert [type(e).__name__ for e in camera.errors] == [
        "ImageError",
        "BackendError",
        "ImageError",
        "PerceptionError",
    ]
    assert "unexpected ZeroDivisionError: a defect" in str(camera.errors[3])


def test_a_failing_delivery_ends_neither_the_thread_nor_the_balance(caplog: pytest.LogCaptureFixture) -> None:
    camera, detector = Camera(), StubDetector()

    def fail_once(frame: Processed[int]) -> None:
        if frame.message == 1:
            raise RuntimeError("publisher is gone")

    camera.on_deliver = fail_once
    with running([camera], detector) as pipeline:
        pipeline.offer(camera.channel, 1)
        camera.wait_for(errors=1)
        pipeline.offer(camera.channel, 2)
        camera.wait_for(deliveries=2)
    assert camera.counts == FrameCounts(received=2, processed=2)
    assert "unexpected RuntimeError: publisher is gone" in str(camera.errors[0])
    assert "publisher is gone" in caplog.text


def test_stale_frames_are_counted() -> None:
    camera, detector = Camera(), StubDetector()
    camera.is_fresh = lambda frame: frame.message >= 10
    with running([camera], detector) as pipeline:
        pipeline.offer(camera.channel, 1)
        while camera.counts.stale < 1:
            threading.Event().wait(0.001)
        pipeline.offer(camera.channel, 10)
        camera.wait_for(deliveries=1)
    assert camera.counts == FrameCounts(received=2, processed=1, stale=1)
    assert camera.counts.dropped == 1
    assert detector.seen == [10]


def test_a_pause_puts_frames_aside() -> None:
    camera, detector = Camera(), StubDetector(open_gate=False)
    with running([camera], detector) as pipeline:
        pipeline.offer(camera.channel, 1)
        assert detector.entered.acquire(timeout=WAIT_S)
        pipeline.offer(camera.channel, 2)  # waits
        pipeline.set_enabled(False)
        assert not pipeline.enabled
        pipeline.offer(camera.channel, 3)
        detector.gate.release()
        camera.wait_for(deliveries=1)
        assert camera.counts == FrameCounts(received=3, processed=1, paused=2)
        pipeline.set_enabled(True)
        detector.gate.release()
        pipeline.offer(camera.channel, 4)
        camera.wait_for(deliveries=2)
    assert detector.seen == [1, 4]
    assert camera.counts.dropped == 0


def test_stop_finishes_the_frame_at_work_and_puts_the_waiting_one_aside() -> None:
    camera, detector = Camera(), StubDetector(open_gate=False)
    pipeline = LivePipeline([camera.channel], cast(Detector, detector))
    pipeline.start()
    pipeline.offer(camera.channel, 1)
    assert detector.entered.acquire(timeout=WAIT_S)
    pipeline.offer(camera.channel, 2)
    stopping = threading.Thread(target=pipeline.stop)
    stopping.start()
    detector.gate.release()
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    pipeline.offer(camera.channel, 3)
    pipeline.stop()
    assert detector.seen == [1]
    assert camera.counts == FrameCounts(received=3, processed=1, paused=2)
    assert "inference" not in [t.name for t in threading.enumerate()]


def test_a_second_start_does_nothing_and_a_new_one_counts_from_zero() -> None:
    camera, detector = Camera(), StubDetector()
    pipeline = LivePipeline([camera.channel], cast(Detector, detector))
    pipeline.start()
    threads = threading.active_count()
    pipeline.start()
    assert threading.active_count() == threads
    pipeline.offer(camera.channel, 1)
    camera.wait_for(deliveries=1)
    pipeline.stop()
    pipeline.start()
    assert camera.counts == FrameCounts()
    pipeline.offer(camera.channel, 2)
    camera.wait_for(deliveries=2)
    pipeline.stop()
    assert camera.counts == FrameCounts(received=1, processed=1)
