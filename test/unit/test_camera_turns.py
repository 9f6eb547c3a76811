"""Whose turn it is: shares of cameras under every kind of overload, with no clock and no threads."""

from __future__ import annotations

import pytest

from trt_perception.camera_turns import CameraTurns


def test_the_camera_that_was_served_longest_ago_comes_first() -> None:
    turns = CameraTurns(3)
    assert turns.in_order([0, 1, 2]) == [0, 1, 2]
    for camera in (0, 2, 1):
        turns.served(camera)
    assert turns.in_order([0, 1, 2]) == [0, 2, 1]
    assert turns.in_order([2, 1]) == [2, 1]


@pytest.mark.parametrize("cameras", [2, 3, 4])
@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_cameras_in_step_share_what_a_governor_leaves(cameras: int, every: int) -> None:
    """All frames of a period come one after the other, camera 0 always first; inference has time for one of them.

    With nothing but an order among those that wait, camera 0 would have all of it.
    """
    turns, served = CameraTurns(cameras), [0] * cameras
    for period in range(840):
        free = period % every == 0
        for camera in range(cameras):
            if free and not turns.gives_way(camera, [camera]):
                turns.served(camera)
                served[camera] += 1
                free = False
            else:
                turns.refused(camera)
    assert min(served) >= 0.95 * sum(served) / cameras, served
    assert sum(served) >= 0.95 * 840 / every


def test_a_camera_that_stopped_costs_the_others_one_frame() -> None:
    turns = CameraTurns(2)
    turns.served(0)
    turns.refused(1)
    assert turns.gives_way(0, [0])
    for _ in range(5):
        assert not turns.gives_way(0, [0])
        turns.served(0)


def test_nobody_gives_way_to_a_frame_at_hand_or_without_a_claim() -> None:
    turns = CameraTurns(2)
    turns.served(0)
    assert not turns.gives_way(0, [0])
    turns.refused(1)
    assert not turns.gives_way(0, [0, 1])
    assert not turns.gives_way(1, [1])


def test_a_camera_that_had_less_goes_ahead_and_pays_for_it() -> None:
    turns = CameraTurns(3)
    for _ in range(2):
        assert [turns.ahead(camera) for camera in range(3)] == [0, 0, 0]
        turns.served(0)
    assert [turns.ahead(camera) for camera in range(3)] == [0, 2, 2]
    turns.served(1)
    assert [turns.ahead(camera) for camera in range(3)] == [0, 0, 2]


def test_a_camera_that_was_silent_does_not_go_ahead_for_long() -> None:
    turns = CameraTurns(2)
    for _ in range(1000):
        turns.served(0)
    frames = 0
    while turns.ahead(1):
        turns.served(1)
        frames += 1
    assert frames == 2


def test_a_camera_that_is_behind_gives_way_to_nobody() -> None:
    turns = CameraTurns(3)
    for camera in (1, 0, 0, 0):
        turns.served(camera)
    turns.refused(2)
    assert turns.ahead(1) and not turns.gives_way(1, [1])
    assert turns.gives_way(0, [0])
