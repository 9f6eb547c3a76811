"""The figures of a frame: names, units, what is absent and when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trt_perception.latency import latency_values
from trt_perception.live_frames import FrameCounts, Processed
from trt_perception.types import Detections, FrameResult, Image, StageTimes

MS = 1_000_000
# The node's clock is ahead of the monotonic one by this much.
OFFSET_NS = 7_000 * MS


def values(*, stamp_ns: int, copies: tuple[int | None, int | None] = (None, None)) -> dict[str, float]:
    found = Detections(np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int64))
    times = StageTimes(2 * MS, 30 * MS, 4 * MS, inference_start_ns=1_010 * MS)
    if copies != (None, None):
        times = StageTimes(2 * MS, 30 * MS, 4 * MS, 1_010 * MS, *copies)
    image = Image(np.zeros((1, 1, 1), np.uint8), "gray")
    model: Any = None
    frame = Processed("m", image, model, FrameResult(found, times), 1_000 * MS, 5 * MS, 1 * MS)
    counts = FrameCounts(received=20, processed=10, superseded=3, stale=2, skipped=1, paused=4)
    return latency_values(
        frame, counts, publish_ns=3 * MS, published_ns=1_060 * MS, stamp_ns=stamp_ns, clock_offset_ns=OFFSET_NS
    )


def test_every_figure_in_the_order_in_which_it_happened() -> None:
    # Stamped 20 ms before it was received.
    assert values(stamp_ns=OFFSET_NS + 980 * MS) == pytest.approx(
        {
            "queue_wait_ms": 5.0,
            "decode_ms": 1.0,
            "preprocess_ms": 2.0,
            "inference_ms": 30.0,
            "postprocess_ms": 4.0,
            "publish_ms": 3.0,
            "total_ms": 60.0,
            "image_age_ms": 80.0,
            "inference_start_offset_ms": 30.0,
            "detection_count": 2.0,
            "dropped_frames_count": 6.0,
            "batch_size_count": 1.0,
            "backend_index": 0.0,
        }
    )


def test_copies_stand_around_the_inference_where_there_are_any() -> None:
    names = list(values(stamp_ns=OFFSET_NS, copies=(5 * MS, 0)))
    first = names.index("preprocess_ms")
    assert names[first : first + 5] == [
        "preprocess_ms",
        "host_to_device_ms",
        "inference_ms",
        "device_to_host_ms",
        "postprocess_ms",
    ]


def test_without_a_stamp_there_is_no_age_and_the_offset_is_the_start() -> None:
    found = values(stamp_ns=0)
    assert "image_age_ms" not in found
    assert found["inference_start_offset_ms"] == pytest.approx(7_000 + 1_010)


def test_a_stamp_in_the_future_gives_no_age_and_a_negative_offset() -> None:
    found = values(stamp_ns=OFFSET_NS + 1_061 * MS)
    assert "image_age_ms" not in found
    assert found["inference_start_offset_ms"] == pytest.approx(-51.0)


def test_an_image_stamped_when_it_was_published_is_of_age_zero() -> None:
    assert values(stamp_ns=OFFSET_NS + 1_060 * MS)["image_age_ms"] == 0.0


def test_every_name_ends_in_its_unit() -> None:
    assert all(name.endswith(("_ms", "_count", "_index")) for name in values(stamp_ns=OFFSET_NS, copies=(1, 1)))
