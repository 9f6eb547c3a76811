"""Work on the frames of a batch that two threads share."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future

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


def test_a_thread_that_does_not_wake_up_is_not_waited_for(shared: SharedWork) -> None:
    held = threading.Event()
    # The second thread is somewhere else.
    elsewhere = shared._beside.submit(held.wait, 30)
    try:
        done: list[int] = []
        shared.each(done.append, range(3))
        assert done == [0, 1, 2] and not elsewhere.done()
    finally:
        held.set()


def test_where_no_thread_can_be_started_the_caller_does_it_all(
    shared: SharedWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        shared.each(done.append, range(3))
    assert done == [0, 1, 2]
    # What was left of that in the queue does nothing more.
    later: list[int] = []
    shared.each(later.append, range(10, 13))
    shared.close()
    assert (done, sorted(later)) == ([0, 1, 2], [10, 11, 12])


def test_after_an_error_nothing_more_is_begun(shared: SharedWork) -> None:
    together = threading.Barrier(2)
    begun: list[int] = []
    caller = threading.get_ident()

    def by_the_caller(place: int) -> None:
        # The caller fails, and the other thread has one in hand.
        if threading.get_ident() == caller:
            together.wait(10)
            raise ValueError("the caller's")
        begun.append(place)
        together.wait(10)
        time.sleep(0.2)

    with pytest.raises(ValueError, match="the caller's"):
        shared.each(by_the_caller, range(100))
    assert len(begun) == 1


def test_an_interrupt_waits_for_the_other_thread(shared: SharedWork, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = threading.get_ident()
    together = threading.Barrier(2)
    interrupted = threading.Event()
    ended: list[int] = []

    def work(place: int) -> None:
        together.wait(10)
        if threading.get_ident() != caller:
            interrupted.wait(10)
            ended.append(place)

    exception = Future.exception

    def interrupt_once(future: Future[None], timeout: float | None = None) -> BaseException | None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        return exception(future, timeout)

    monkeypatch.setattr(Future, "exception", interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        shared.each(work, range(2))
    assert len(ended) == 1


def test_an_error_keeps_nothing_alive(shared: SharedWork) -> None:
    class Frame:
        pass

    def fail(frame: Frame) -> None:
        caller = threading.get_ident()
        together = threading.Barrier(2)

        def work(_: int) -> None:
            together.wait(10)
            if threading.get_ident() != caller:
                raise ValueError(f"beside {frame}")

        with pytest.raises(ValueError, match="beside"):
            shared.each(work, range(2))

    frame = Frame()
    there = weakref.ref(frame)
    gc.collect()
    gc.disable()
    try:
        fail(frame)
        del frame
        assert there() is None
    finally:
        gc.enable()


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
