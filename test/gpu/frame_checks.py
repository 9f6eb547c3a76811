"""What is asked of every backend's short way on a GPU, with the plain way of the same backend beside it."""

from __future__ import annotations

import numpy as np

from test.camera_encodings import encode
from test.gpu.memory import BLOCK, left_behind
from trt_perception.detector import Detector
from trt_perception.encodings import camera_frame
from trt_perception.pixel_layouts import CameraFrame

_RNG = np.random.default_rng(21)
_NAMES = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}


def frame(encoding: str = "bgr8", width: int = 160, height: int = 120, padding: int = 0) -> CameraFrame:
    """Noise, as a camera would send it."""
    bgr = _RNG.integers(0, 256, (height, width, 3), np.uint8)
    sent = encode(bgr, _NAMES.get(encoding, encoding), padding)
    return camera_frame(encoding, width, height, sent.step, sent.data)


def assert_stage_times(fast: Detector, plain: Detector, *, least: float) -> None:
    """Every stage takes its time, and inference about what it takes on the plain way; least: over that at least."""
    given = frame("bgr8", 640, 480)
    times = [detector.detect(given).times for detector in (fast, plain) for _ in range(30)]
    for one in times[:30]:
        assert len(one.durations_ms()) == 5 and one.device_to_host_ns is not None
        assert 0 < one.around_on_device_ns < one.preprocess_ns + one.postprocess_ns
        assert one.host_to_device_ns is not None and one.host_to_device_ns > 0
    # Ours by the clock that kernels read, the other by events or the host's clock.
    ours, judges = (np.median([one.inference_ns for one in part]) for part in (times[5:30], times[35:]))
    assert max(0.0, least * judges - 10_000) < ours < 2.5 * judges + 10_000


def assert_flat_memory(detector: Detector, frames: int) -> None:
    """So many frames of nine kinds take no more device memory than the first hundred."""
    sizes = [(640, 480), (1280, 720), (320, 240)]
    given = [frame(encoding, *size) for size in sizes for encoding in ("bgr8", "nv12", "yuyv")]

    def run(count: int) -> None:
        for index in range(count):
            detector.detect(given[index % len(given)])

    run(100)
    assert left_behind(lambda: run(frames)) <= BLOCK
