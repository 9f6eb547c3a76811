"""Lost messages, counted from the publisher's numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.ros.input_link import InputLink


def lost_of(numbers: Sequence[int | None], publishers: int = 1) -> int:
    link = InputLink()
    for number in numbers:
        link.arrived(number, publishers)
    return link.lost


@given(st.sets(st.integers(1, 500), min_size=1))
def test_what_lies_between_the_first_and_the_last_and_did_not_come_is_lost(came: set[int]) -> None:
    assert lost_of(sorted(came)) == max(came) - min(came) + 1 - len(came)


def test_a_late_joiner_has_lost_nothing() -> None:
    assert lost_of([500, 501]) == 0


def test_a_publisher_that_starts_again_has_lost_nothing() -> None:
    assert lost_of([98, 99, 1, 2, 4]) == 1


def test_numbers_of_several_publishers_are_not_told_apart() -> None:
    assert lost_of([1, 70, 2, 72], publishers=2) == 0


@pytest.mark.parametrize("number", [None, 2**64 - 1])
def test_the_middlewares_event_counts_where_it_gives_no_numbers(number: int | None) -> None:
    link = InputLink()
    link.arrived(number, 1)
    link.lost_event(3)
    assert link.lost == 3


def test_an_event_is_not_counted_on_top_of_a_gap() -> None:
    link = InputLink()
    link.arrived(1, 1)
    link.lost_event(2)
    link.arrived(4, 1)
    assert link.lost == 2
