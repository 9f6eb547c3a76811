"""Ratios between backends that took turns."""

from __future__ import annotations

import numpy as np
import pytest

from trt_perception.benchmark.pace import paces


def test_without_disturbance_it_is_the_ratio_of_the_medians() -> None:
    found = paces({"a": [2.0] * 30, "b": [3.0] * 30, "c": [1.0] * 30}, 10)
    assert found["b"] / found["a"] == pytest.approx(1.5)
    assert found["b"] / found["c"] == pytest.approx(3.0)


def test_what_hits_all_or_less_than_half_of_the_rounds_does_not_count() -> None:
    rng = np.random.default_rng(0)
    speed = np.repeat(rng.uniform(1, 3, 10), 10)
    slow, fast = 10 * speed, 5 * speed
    fast[30:60] *= 4
    found = paces({"slow": slow.tolist(), "fast": fast.tolist()}, 10)
    assert found["slow"] / found["fast"] == pytest.approx(2.0)
    assert np.median(slow) / np.median(fast) != pytest.approx(2.0, rel=0.05)


def test_the_last_turn_may_be_shorter() -> None:
    found = paces({"a": [2.0] * 13, "b": [3.0] * 13}, 5)
    assert found["b"] / found["a"] == pytest.approx(1.5)


def test_one_and_none() -> None:
    assert paces({"a": [2.0, 5.0, 9.0]}, 2) == {"a": pytest.approx(1.0)}
    assert paces({}, 10) == {}
