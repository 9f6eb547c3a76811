"""The live pipeline with real threads: the newest frame wins, and every frame is accounted for."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import cast

import numpy as np
import pytest

from trt_perception.control_budget.governor import InferenceGovernor
from trt_perception.detector import Detector
from trt_perception.errors import BackendError, ImageError, OutputError, PerceptionError
from trt_perception.live import LivePipeline
from trt_perception.live_frames import Batching, Channel, FrameCounts, Processed, Received
from trt_perception.types import Detections, FrameResult, Image, StageTimes

WAIT_S = 30  # only a broken pipeline waits so long


class StubDetector:
    """Stops at a gate in each frame, so that a test decides how long an inference takes."""

    def __init__(self, name: str = "first", *, open_gate: bool = True, max_batch: int | None = 1) -> None:
        self.model = name
        self.backend_index = 0
        self.max_batch = max_batch
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.open_gate = open_gate
        self.seen: list[int] = []
        self.batches: list[list[int]] = []
        self.failures: dict[int, Exception] = {}
        self.inside = 0

    def detect_batch(self, images: Sequence[Image]) -> list[FrameResult]:
        assert self.max_batch is None or len(images) <= self.max_batch
        self.inside += 1
        assert self.inside == 1
        try:
            self.entered.release()
            if not self.open_gate:
                assert self.gate.acquire(timeout=WAIT_S)
            numbers = [int(image.pixels[0, 0, 0]) for image in images]
            self.batches.append(numbers)
            for number in numbers:
                if number in self.failures:
                    self.seen.append(number)
                    raise self.failures[number]
            self.seen += numbers
            start_ns = time.monotonic_ns()
            return [FrameResult(Detections.none(), StageTimes(1, 1, 1, start_ns, batch_size=len(images)))] * len(images)
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
    cameras: list[Camera],
    detector: StubDetector,
    governor: InferenceGovernor | None = None,
    batching: Batching | None = None,
) -> Iterator[LivePipeline[int]]:
    channels = [c.channel for c in cameras]
    pipeline = LivePipeline(channels, cast(Detector, detector), governor, batching=batching)
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


# --- several cameras ------------------------------------------------------------------------------------------


def fill_behind_a_frame(pipeline: LivePipeline[int], cameras: list[Camera], detector: StubDetector) -> None:
    """Puts frame 0 of the first camera into the detector, and then a frame of every camera behind it."""
    pipeline.offer(cameras[0].channel, 0)
    assert detector.entered.acquire(timeout=WAIT_S)
    for index, camera in enumerate(cameras):
        pipeline.offer(camera.channel, 10 + index)


@pytest.mark.parametrize(
    ("of_detector", "setting", "batches"),
    [
        (None, 0, [[0], [11, 12, 10]]),
        (2, 0, [[0], [11, 12], [10]]),
        (None, 2, [[0], [11, 12], [10]]),
        (1, 0, [[0], [11], [12], [10]]),
        (None, 1, [[0], [11], [12], [10]]),
    ],
)
def test_frames_that_are_ready_together_go_together(
    of_detector: int | None, setting: int, batches: list[list[int]]
) -> None:
    cameras, detector = [Camera(n) for n in "abc"], StubDetector(open_gate=False, max_batch=of_detector)
    with running(cameras, detector, batching=Batching(setting)) as pipeline:
        fill_behind_a_frame(pipeline, cameras, detector)
        detector.gate.release(10)
        for camera, count in zip(cameras, (2, 1, 1), strict=True):
            camera.wait_for(deliveries=count)
    assert detector.batches == batches
    for camera in cameras:
        assert_balanced(camera.counts)
    assert [c.delivered[-1].message for c in cameras] == [10, 11, 12]


def test_the_first_waits_for_the_others_but_no_longer_than_it_may() -> None:
    cameras, detector = [Camera("a"), Camera("b")], StubDetector(max_batch=None)
    with running(cameras, detector, batching=Batching(max_wait_ns=20_000_000_000)) as pipeline:
        pipeline.offer(cameras[0].channel, 1)
        time.sleep(0.05)
        assert detector.batches == []
        pipeline.offer(cameras[0].channel, 2)  # the newest wins while it waits
        pipeline.offer(cameras[1].channel, 3)
        cameras[1].wait_for(deliveries=1)
    assert detector.batches == [[2, 3]]
    assert cameras[0].counts == FrameCounts(received=2, processed=1, superseded=1)

    cameras, detector = [Camera("a"), Camera("b")], StubDetector(max_batch=None)
    with running(cameras, detector, batching=Batching(max_wait_ns=30_000_000)) as pipeline:
        pipeline.offer(cameras[0].channel, 1)
        cameras[0].wait_for(deliveries=1)
    assert detector.batches == [[1]]
    assert cameras[0].delivered[0].queue_wait_ns >= 30_000_000


def test_newer_frames_of_a_camera_do_not_begin_its_wait_again() -> None:
    """One camera is silent; the other's frames come faster than the wait is long."""
    cameras, detector = [Camera("a"), Camera("b")], StubDetector(max_batch=None)
    with running(cameras, detector, batching=Batching(max_wait_ns=60_000_000)) as pipeline:
        begin_s = time.monotonic()
        for number in range(60):
            pipeline.offer(cameras[0].channel, number)
            time.sleep(0.01)
        waits = (time.monotonic() - begin_s) / 0.06
        processed = cameras[0].counts.processed
    assert 5 <= processed <= waits + 1


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (ImageError("empty"), FrameCounts(received=1, malformed=1)),
        (OutputError("not finite"), FrameCounts(received=1, failed=1)),
    ],
)
def test_a_bad_picture_or_output_among_others_harms_only_itself(error: Exception, counts: FrameCounts) -> None:
    cameras, detector = [Camera(n) for n in "abc"], StubDetector(open_gate=False, max_batch=None)
    detector.failures = {11: error}
    with running(cameras, detector) as pipeline:
        fill_behind_a_frame(pipeline, cameras, detector)
        detector.gate.release(10)
        cameras[0].wait_for(deliveries=2)
        cameras[1].wait_for(errors=1)
        cameras[2].wait_for(deliveries=1)
    assert cameras[1].counts == counts
    assert [c.counts.processed for c in cameras] == [2, 0, 1]


def test_a_batch_that_fails_is_told_to_every_camera() -> None:
    cameras, detector = [Camera(n) for n in "ab"], StubDetector(open_gate=False, max_batch=None)
    detector.failures = {11: BackendError("no device")}
    with running(cameras, detector) as pipeline:
        fill_behind_a_frame(pipeline, cameras, detector)
        detector.gate.release(10)
        for camera in cameras:
            camera.wait_for(errors=1)
    assert [c.counts.failed for c in cameras] == [1, 1]
    assert detector.batches == [[0], [11, 10]]


def test_a_batch_counts_once_for_the_governor() -> None:
    class Noting(InferenceGovernor):
        intervals: list[tuple[int, int]] = []  # noqa: RUF012

        def finished(self, start_ns: int, end_ns: int) -> None:
            self.intervals.append((start_ns, end_ns))

    cameras, detector = [Camera(n) for n in "abcd"], StubDetector(open_gate=False, max_batch=None)
    with running(cameras, detector, Noting(0.0)) as pipeline:
        fill_behind_a_frame(pipeline, cameras, detector)
        detector.gate.release(10)
        for camera in cameras:
            camera.wait_for(deliveries=1)
        cameras[0].wait_for(deliveries=2)
    assert [len(b) for b in detector.batches] == [1, 4]
    assert len(Noting.intervals) == 2


def test_under_overload_every_camera_has_its_share() -> None:
    """Cameras whose rates differ by a factor of eight, all faster than inference is."""
    for max_batch in (1, 2, None):
        cameras, detector = [Camera(str(i)) for i in range(4)], StubDetector(open_gate=False, max_batch=max_batch)
        with running(cameras, detector) as pipeline:
            pipeline.offer(cameras[0].channel, 0)
            for _ in range(200):
                assert detector.entered.acquire(timeout=WAIT_S)
                for index, camera in enumerate(cameras):
                    for number in range(2**index):
                        pipeline.offer(camera.channel, number)
                detector.gate.release()
            detector.open_gate = True
        processed = [camera.counts.processed for camera in cameras]
        assert min(processed) >= 0.95 * sum(processed) / 4, (max_batch, processed)


def test_the_governor_counts_runs_whose_output_is_refused() -> None:
    class Noting(InferenceGovernor):
        intervals: list[tuple[int, int]] = []  # noqa: RUF012

        def finished(self, start_ns: int, end_ns: int) -> None:
            self.intervals.append((start_ns, end_ns))

    camera, detector = Camera(), StubDetector()
    detector.failures = {1: OutputError("not finite"), 2: BackendError("no device")}
    with running([camera], detector, Noting(0.0)) as pipeline:
        for number in (1, 2):
            pipeline.offer(camera.channel, number)
            camera.wait_for(errors=number)
    assert len(Noting.intervals) == 1
