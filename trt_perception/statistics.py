"""Figures over a window of the newest samples: the same definitions in every report."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    values = np.sort(np.asarray(samples, np.float64))
    # A node does this a dozen times a second, and np.percentile takes as long as all of it together.
    p50, p95, p99 = (_percentile(values, share) for share in (0.5, 0.95, 0.99))
    mean, std = float(values.mean()), float(values.std())
    return Summary(len(samples), mean, std, float(values[0]), p50, p95, p99, float(values[-1]))


def _percentile(ascending: NDArray[np.float64], share: float) -> float:
    rank = share * (ascending.size - 1)
    below = int(rank)
    low, high = float(ascending[below]), float(ascending[min(below + 1, ascending.size - 1)])
    return low + (high - low) * (rank - below)


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
