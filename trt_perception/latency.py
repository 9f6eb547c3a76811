"""The figures of one frame as they are published: names that end in their unit."""

from __future__ import annotations

from typing import Any

from trt_perception.live_frames import FrameCounts, Processed


def latency_values(
    frame: Processed[Any],
    counts: FrameCounts,
    *,
    publish_ns: int,
    published_ns: int,
    stamp_ns: int,
    clock_offset_ns: int,
) -> dict[str, float]:
    """Everything `inference_latency` says of one frame, in the order in which it happened.

    publish_ns: how long publishing the detections took; published_ns: when that was done (time.monotonic_ns);
    stamp_ns: the image's stamp on the node's clock, 0 when it has none; clock_offset_ns: node's clock minus
    time.monotonic_ns. A stage that the backend does not have is absent. image_age_ms is absent without a stamp or
    with one in the future; inference_start_offset_ms is always there: start = stamp + offset. backend_index: place of
    the backend that ran in the list of backends, 0 for the one that was wanted. batch_size_count: how many frames went
    through the network together; copies and inference are then those of all of them.
    """
    values = {"queue_wait_ms": frame.queue_wait_ns / 1e6, "decode_ms": frame.decode_ns / 1e6}
    values |= frame.result.times.durations_ms()
    values["publish_ms"] = publish_ns / 1e6
    values["total_ms"] = (published_ns - frame.received_ns) / 1e6
    age_ns = published_ns + clock_offset_ns - stamp_ns
    if stamp_ns > 0 and age_ns >= 0:
        values["image_age_ms"] = age_ns / 1e6
    start_ns = frame.result.times.inference_start_ns + clock_offset_ns
    values["inference_start_offset_ms"] = (start_ns - stamp_ns) / 1e6
    values["detection_count"] = float(len(frame.result.detections))
    values["dropped_frames_count"] = float(counts.dropped)
    values["batch_size_count"] = float(frame.result.times.batch_size)
    values["backend_index"] = float(frame.backend_index)
    return values
