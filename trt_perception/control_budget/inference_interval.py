"""Reads the busy interval of the device from the figures of one `inference_latency` message."""

from __future__ import annotations

import math
from collections.abc import Mapping

START_OFFSET_NAME = "inference_start_offset_ms"
INFERENCE_NAME = "inference_ms"
# A backend without one of these stages (a CPU has no device to copy to) leaves it out.
COPY_NAMES = ("host_to_device_ms", "device_to_host_ms")

# A century: the offset to a stamp of zero is the time since 1970, and all beyond is nonsense that would overflow.
_MOST_MS = 3.2e12


def inference_interval_ns(stamp_ns: int, figures_ms: Mapping[str, float]) -> tuple[int, int]:
    """Start and end (ns, clock of the stamp) of one frame's busy time: copy in, inference, copy out.

    `stamp_ns` is the image's stamp, `figures_ms` the message's values by name; the busy time begins
    `inference_start_offset_ms` after the stamp. Raises ValueError that says which value is missing or wrong.
    """
    offset_ms = _value_ms(figures_ms, START_OFFSET_NAME)
    busy_ms = _length_ms(figures_ms, INFERENCE_NAME)
    busy_ms += sum(_length_ms(figures_ms, name) for name in COPY_NAMES if name in figures_ms)
    start_ns = stamp_ns + round(offset_ms * 1e6)
    return start_ns, start_ns + round(busy_ms * 1e6)


def _value_ms(figures_ms: Mapping[str, float], name: str) -> float:
    if name not in figures_ms:
        raise ValueError(f"latency message has no {name}, only {sorted(figures_ms)}; the detector has to publish it")
    value_ms = figures_ms[name]
    if not math.isfinite(value_ms) or abs(value_ms) > _MOST_MS:
        raise ValueError(f"latency message has {name} = {value_ms}; expected a finite number of milliseconds")
    return value_ms


def _length_ms(figures_ms: Mapping[str, float], name: str) -> float:
    value_ms = _value_ms(figures_ms, name)
    if value_ms < 0.0:
        raise ValueError(f"latency message has {name} = {value_ms} ms; expected 0 or more")
    return value_ms
