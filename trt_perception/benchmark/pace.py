"""How much longer one backend takes than another, from the turns that they took.

On a machine that is disturbed for seconds at a time, a backend's median over the whole run depends on which of its
turns were hit. In one round of turns all backends are hit alike, or one is and the round is an outlier: so each round
is judged by itself, and the median round counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def paces(samples_ms: Mapping[str, Sequence[float]], runs_per_turn: int) -> dict[str, float]:
    """Name → pace; the ratio of two paces says how much longer one takes, and all ratios fit each other.

    samples_ms: for each backend as many values, above 0, in the order of the turns, of which each has runs_per_turn
    values (the last may have fewer). The pace is the median over all rounds of a turn's median over the geometric mean
    of the medians of all turns of that round.
    """
    starts = range(runs_per_turn, len(next(iter(samples_ms.values()), ())), runs_per_turn)
    medians = np.array([[np.median(turn) for turn in np.split(np.asarray(v), starts)] for v in samples_ms.values()])
    if medians.size == 0:
        return {}
    relative = medians / np.exp(np.log(medians).mean(axis=0))
    return dict(zip(samples_ms, np.median(relative, axis=1).tolist(), strict=True))
