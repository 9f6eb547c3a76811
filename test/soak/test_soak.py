"""Short versions of every scenario; `make soak` runs the whole."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from test.soak import scenarios
from test.soak.signals import signals


@pytest.fixture
def rng() -> random.Random:
    return random.Random(8)


def test_a_steady_run_holds_its_descriptors_and_threads() -> None:
    row, grown = scenarios.steady(600)
    assert row.crashes == 0
    assert abs(grown.descriptors) <= 1
    assert abs(grown.threads) <= 1


def test_the_camera_is_killed_and_started_again(rng: random.Random) -> None:
    assert scenarios.camera_restarts(2, rng).crashes == 0


@pytest.mark.parametrize("warm", [True, False])
def test_the_backend_fails_and_is_mended(rng: random.Random, warm: bool) -> None:
    assert scenarios.backend_failures(2, rng, warm).crashes == 0


@pytest.mark.slow
def test_parameters_and_backends_change_at_random(rng: random.Random) -> None:
    assert scenarios.changes(40, rng).crashes == 0


def test_subscribers_that_do_not_read_hold_nothing_up() -> None:
    assert scenarios.deaf_subscribers(1.0).crashes == 0


def test_stopped_and_continued(rng: random.Random) -> None:
    assert scenarios.stops(3, rng).crashes == 0


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_images_that_are_none(rng: random.Random, transport: str) -> None:
    assert scenarios.bad_input(300, rng, transport).crashes == 0


@pytest.mark.slow
def test_signals_at_random_moments(rng: random.Random) -> None:
    assert signals(8, rng).crashes == 0
