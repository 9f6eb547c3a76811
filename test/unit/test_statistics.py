"""Figures over samples, against NumPy and against what the names promise."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.statistics import SampleWindow, Summary, summarize

samples = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


@given(samples)
def test_figures_are_what_their_names_say(values: list[float]) -> None:
    s = summarize(values)
    assert s.count == len(values)
    assert (s.min, s.max) == (min(values), max(values))  # nothing is trimmed
    assert s.mean == pytest.approx(statistics.fmean(values))
    assert s.std == pytest.approx(statistics.pstdev(values), rel=1e-6, abs=1e-6)
    assert s.p50 == pytest.approx(statistics.median(values))
    for share, value in ((95, s.p95), (99, s.p99)):
        assert value == pytest.approx(float(np.percentile(values, share)))
    assert s.min <= s.p50 <= s.p95 <= s.p99 <= s.max


def test_percentiles_lie_between_ranks() -> None:
    s = summarize([float(v) for v in range(101)])
    assert (s.p50, s.p95, s.p99) == (50.0, 95.0, 99.0)
    assert summarize([0.0, 10.0]).p95 == pytest.approx(9.5)


def test_one_sample() -> None:
    assert summarize([3.0]) == Summary(1, 3.0, 0.0, 3.0, 3.0, 3.0, 3.0, 3.0)


def test_no_sample() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize([])
    assert SampleWindow(3).summary() is None


def test_a_window_keeps_the_newest() -> None:
    window = SampleWindow(3)
    for value in (100.0, 1.0, 2.0, 3.0):
        window.add(value)
    assert window.summary() == summarize([1.0, 2.0, 3.0])
