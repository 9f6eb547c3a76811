"""Interleaved measurement: every way gets a block of frames in turn, so that the machine's moods hit all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from trt_perception.statistics import Summary, summarize

# Takes the number of a frame, handles that frame and returns durations in nanoseconds by name.
Way: TypeAlias = Callable[[int], Mapping[str, int]]
# way → name of a duration → samples in milliseconds, in the order of the frames.
Samples: TypeAlias = dict[str, dict[str, list[float]]]

WARM_UP_FRAMES = 5


def interleave(ways: Mapping[str, Way], rounds: int, block: int) -> Samples:
    """Runs `rounds` times a block of `block` frames of each way, the first way of a round being another each time.

    The first frame of a block finds the caches as the way before it left them, and is not counted.
    """
    names = list(ways)
    samples: Samples = {name: {} for name in names}
    for name in names:
        for index in range(WARM_UP_FRAMES):
            ways[name](index)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            ways[name](0)
            for index in range(block):
                for key, value in ways[name](index).items():
                    samples[name].setdefault(key, []).append(value / 1e6)
    return samples


def median(samples: list[float]) -> float:
    """In the unit of the samples."""
    return float(np.median(samples))


def ratio(samples: Samples, of: tuple[str, str], to: tuple[str, str]) -> float:
    """Median of one way's duration over that of another's; each is named by its way and its name."""
    return median(samples[of[0]][of[1]]) / median(samples[to[0]][to[1]])


def summaries(samples: Samples) -> dict[str, dict[str, Summary]]:
    """Every duration's percentiles in milliseconds."""
    return {way: {name: summarize(values) for name, values in rows.items()} for way, rows in samples.items()}
