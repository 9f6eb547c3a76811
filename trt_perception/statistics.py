"""Figures over a window of the newest samples: the same definitions in every report."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Percentiles are linear between ranks (NumPy's default); nothing is trimmed, max is the true maximum.

    Every figure has the unit of the samples.
    """

    count: int
    mean: float
    std: float
    min: float
    p50: float
    p95: float
    p99: float
    max: float


def summarize(samples: list[float]) -> Summary:
    """Summary of at least one sample; raises ValueError when there is none."""
    if not samples:
        raise ValueError("no samples to summarize")
    values = np.asarray(samples, np.float64)
    p50, p95, p99 = (float(v) for v in np.percentile(values, (50, 95, 99)))
    return Summary(
        len(samples), float(values.mean()), float(values.std()), float(values.min()), p50, p95, p99, float(values.max())
    )


class SampleWindow:
    """The newest `size` samples of one figure."""

    def __init__(self, size: int) -> None:
        self._samples: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Takes one sample; the oldest leaves when the window is full."""
        self._samples.append(value)

    def summary(self) -> Summary | None:
        """Figures over the window, None while it is empty."""
        samples = list(self._samples)
        return summarize(samples) if samples else None
