"""Which backend runs after which failure, with the real thread and no backend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from trt_perception.detector import Detector, WarmUp
from trt_perception.errors import BackendError
from trt_perception.fallback_chain import FallbackChain, FallbackPolicy, Opened

NAMES = ("first", "second", "third")
WAIT_S = 30.0
NEVER_S = 0.0
LONG_S = 3600.0
BROKEN = BackendError("the device is gone")


class StubDetector:
    def __init__(self, index: int) -> None:
        self.index = index
        self.backend_index = 0
        self.reason: str | None = None
        self.closed = False
        self.close_error: BackendError | None = None

    def explain_fallback(self, reason: str | None) -> None:
        self.reason = reason

    def close(self) -> None:
        self.closed = True
        if self.close_error is not None:
            raise self.close_error


class Host:
    """Opens whatever is not broken; remembers what happened."""

    def __init__(self) -> None:
        self.broken: set[int] = set()
        self.opened: list[StubDetector] = []
        self.running = StubDetector(0)
        self.announcements: list[str] = []
        self.reports: list[str] = []
        self.given_up: list[str] = []
        self.error: type[Exception] = BackendError
        self.happened = threading.Condition()

    def open_backend(self, index: int) -> Opened:
        if index in self.broken:
            raise self.error(f"{NAMES[index]} does not open")
        detector = StubDetector(index)
        with self.happened:
            self.opened.append(detector)
            self.happened.notify_all()
        return Opened(cast(Detector, detector), WarmUp((1,)))

    def install(self, opened: Opened, announcement: str) -> Detector:
        with self.happened:
            old, self.running = self.running, cast(StubDetector, opened.detector)
            self.announcements.append(announcement)
            self.happened.notify_all()
        return cast(Detector, old)

    def report(self, message: str) -> None:
        with self.happened:
            self.reports.append(message)
            self.happened.notify_all()

    def gave_up(self, reason: str) -> None:
        with self.happened:
            self.given_up.append(reason)
            self.happened.notify_all()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        with self.happened:
            assert self.happened.wait_for(holds, WAIT_S), (self.announcements, self.reports)


@contextmanager
def chain_of(
    host: Host, policy: FallbackPolicy, index: int = 0, names: tuple[str, ...] = NAMES
) -> Iterator[FallbackChain]:
    chain = FallbackChain(names, index, policy, host)
    chain.start()
    try:
        yield chain
    finally:
        chain.stop()


def fail(chain: FallbackChain, times: int) -> None:
    for _ in range(times):
        chain.frame_ended(BROKEN)


def test_the_next_backend_runs_after_so_many_failures_in_a_row() -> None:
    host = Host()
    first = host.running
    with chain_of(host, FallbackPolicy(True, 3, LONG_S)) as chain:
        for _ in range(5):
            fail(chain, 2)
            chain.frame_ended(None)
        assert host.running is first
        fail(chain, 3)
        host.wait_until(lambda: host.running.index == 1)
    assert host.announcements == ["runs second instead of first: 3 frames in a row failed: the device is gone"]
    assert host.running.reason == "runs second instead of first: 3 frames in a row failed: the device is gone"
    assert host.running.backend_index == 1
    assert first.closed
    assert not host.running.closed
    assert (chain.changes, chain.last_change) == (1, host.announcements[0])


def test_one_that_closes_with_an_error_is_replaced_all_the_same() -> None:
    host = Host()
    first = host.running
    first.close_error = BackendError("the profile cannot be written")
    with chain_of(host, FallbackPolicy(True, 1, LONG_S)) as chain:
        fail(chain, 1)
        host.wait_until(lambda: first.closed)
        fail(chain, 1)
        host.wait_until(lambda: host.running.index == 2)
    assert host.reports == ["closed with an error: the profile cannot be written"]
    assert host.given_up == []


def test_a_backend_that_does_not_open_is_passed_over_and_named() -> None:
    host = Host()
    host.broken = {1}
    with chain_of(host, FallbackPolicy(True, 1, LONG_S)) as chain:
        fail(chain, 1)
        host.wait_until(lambda: host.running.index == 2)
    assert host.reports == ["second cannot run: second does not open"]


def test_an_unexpected_error_of_a_library_passes_over_it_too() -> None:
    host = Host()
    host.broken, host.error = {1}, ZeroDivisionError
    with chain_of(host, FallbackPolicy(True, 1, LONG_S)) as chain:
        fail(chain, 1)
        host.wait_until(lambda: host.running.index == 2)


def test_without_permission_the_host_is_told_once_and_nothing_changes() -> None:
    host = Host()
    with chain_of(host, FallbackPolicy(False, 2, 0.01)) as chain:
        fail(chain, 2)
        host.wait_until(lambda: bool(host.given_up))
        fail(chain, 10)
        time.sleep(0.05)
    assert host.given_up == ["first: 2 frames in a row failed: the device is gone"]
    assert host.opened == []


def test_zero_errors_allowed_means_never() -> None:
    host = Host()
    with chain_of(host, FallbackPolicy(True, 0, LONG_S)) as chain:
        fail(chain, 1000)
        time.sleep(0.05)
    assert host.opened == []


def test_it_climbs_back_when_the_wanted_backend_opens_again() -> None:
    host = Host()
    host.broken = {0}
    with chain_of(host, FallbackPolicy(True, 1, 0.02), index=1):
        host.wait_until(lambda: len(host.reports) >= 2)
        host.broken = set()
        host.wait_until(lambda: host.running.index == 0 and host.running in host.opened)
    assert host.announcements == ["runs first instead of second: it works again"]
    assert host.running.reason is None
    assert host.running.backend_index == 0


def test_with_no_timer_it_climbs_back_on_request_only() -> None:
    host = Host()
    with chain_of(host, FallbackPolicy(True, 1, NEVER_S), index=2) as chain:
        time.sleep(0.05)
        assert host.opened == []
        host.broken = {0}
        chain.retry()
        assert host.running.index == 1
        assert host.reports == ["first cannot run: first does not open"]
        host.broken = set()
        chain.retry()
        assert host.running.index == 0
    chain.retry()  # after the end it returns at once


def test_the_warm_spare_takes_over_without_being_opened_again() -> None:
    host = Host()
    with chain_of(host, FallbackPolicy(True, 1, LONG_S, keep_warm=True)) as chain:
        host.wait_until(lambda: len(host.opened) == 1)
        host.broken = {0, 1, 2}  # nothing opens any more: the spare must be what runs
        fail(chain, 1)
        host.wait_until(lambda: host.running.index == 1)
        assert host.running is host.opened[0]


def test_the_next_spare_is_opened_after_the_first_took_over_and_closed_at_the_end() -> None:
    host = Host()
    with chain_of(host, FallbackPolicy(True, 1, LONG_S, keep_warm=True)) as chain:
        host.wait_until(lambda: len(host.opened) == 1)
        fail(chain, 1)
        host.wait_until(lambda: [d.index for d in host.opened] == [1, 2])
    assert [d.closed for d in host.opened] == [False, True]


def test_the_last_one_standing_is_opened_anew_and_then_waits() -> None:
    host = Host()
    with chain_of(host, FallbackPolicy(True, 1, LONG_S), names=("first",)) as chain:
        fail(chain, 1)
        host.wait_until(lambda: len(host.opened) == 1)
        host.wait_until(lambda: host.running is host.opened[0])
        assert host.announcements[0].startswith("runs first again, opened anew")
        assert host.running.reason is None
        time.sleep(0.05)
        fail(chain, 1)
        host.wait_until(lambda: bool(host.reports))
    assert "no other backend can run now" in host.reports[0]
    assert len(host.opened) == 1
    assert host.given_up == []


def test_when_nothing_works_everything_is_tried_again_until_something_does() -> None:
    host = Host()
    host.broken = {0, 1, 2}
    with chain_of(host, FallbackPolicy(True, 1, 0.02)) as chain:
        fail(chain, 1)
        host.wait_until(lambda: len(host.reports) > 6)
        host.broken = {0, 1}
        host.wait_until(lambda: host.running.index == 2)
        assert not host.running.closed


@pytest.mark.parametrize("warm", [False, True])
def test_it_ends_while_frames_fail(warm: bool) -> None:
    host = Host()
    with chain_of(host, FallbackPolicy(True, 1, 0.001, keep_warm=warm)) as chain:
        for _ in range(2000):
            fail(chain, 1)
    assert sum(not d.closed for d in host.opened) <= 1
