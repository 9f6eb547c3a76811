"""Work on the frames of a batch that two threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from trt_perception.backends.cuda_frames.shared_work import SharedWork


@pytest.fixture
def shared() -> Iterator[SharedWork]:
    work = SharedWork()
    yield work
    work.close()


def test_both_threads_take_part_and_each_index_is_done_once(shared: SharedWork) -> None:
    together = threading.Barrier(2)
    done: list[tuple[int, int]] = []

    def work(index: int) -> None:
        if index < 2:
            # Passes when two threads are here, and fails the test after ten seconds of one alone.
            together.wait(10)
        done.append((index, threading.get_ident()))

    shared.each(work, range(5))
    assert sorted(index for index, _ in done) == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in done}) == 2 and threading.get_ident() in {thread for _, thread in done}


def test_a_thread_that_does_not_wake_up_is_not_waited_for() -> None:
    shared = SharedWork()
    held = threading.Event()
    try:
        # The second thread is somewhere else.
        shared._beside.submit(held.wait, 10)
        done: list[int] = []
        shared.each(done.append, range(3))
        assert done == [0, 1, 2] and not held.is_set()
    finally:
        held.set()
        shared.close()


@pytest.mark.parametrize("here", [True, False], ids=["here", "in the other thread"])
def test_what_a_work_raises_arrives_when_no_thread_works_any_more(shared: SharedWork, here: bool) -> None:
    caller = threading.get_ident()
    together = threading.Barrier(2)
    running: list[int] = []

    def work(index: int) -> None:
        if index >= 2:
            return
        running.append(index)
        together.wait(10)
        if (threading.get_ident() == caller) is here:
            raise IndexError(f"of {index}")
        running.sort()
        running.append(-1)

    with pytest.raises(IndexError, match=r"of [01]"):
        shared.each(work, range(2))
    assert running == [0, 1, -1]
    done: list[int] = []
    shared.each(done.append, range(2))
    assert sorted(done) == [0, 1]


def test_closing_ends_the_thread(shared: SharedWork) -> None:
    shared.each(lambda _: None, range(2))
    shared.close()
    shared.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frame_copy")]
