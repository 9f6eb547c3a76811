"""Real-time settings on this process and on a node, as far as the rights of whoever runs the tests go."""

from __future__ import annotations

import gc
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray

from test.ros.graph import Graph
from trt_perception.errors import PerceptionError
from trt_perception.ros import real_time
from trt_perception.ros.quiet_collection import QuietCollector
from trt_perception.ros.real_time import RealTime, RealTimeSettings

CORE = min(os.sched_getaffinity(0))


@pytest.fixture
def another_thread() -> Iterator[int]:
    """Its number for the kernel."""
    end, ready = threading.Event(), threading.Event()

    def run() -> None:
        ready.set()
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    yield thread.native_id or 0
    end.set()
    thread.join()


def test_cores_hold_for_every_thread_until_undone(another_thread: int) -> None:
    before = os.sched_getaffinity(another_thread)
    subject = RealTime(RealTimeSettings(cores=frozenset({CORE})))
    subject.apply()
    try:
        assert os.sched_getaffinity(another_thread) == os.sched_getaffinity(0) == {CORE}
        assert subject.read_back()["cpu_affinity"] == str(CORE)
    finally:
        subject.undo()
    assert os.sched_getaffinity(another_thread) == before


def test_a_core_that_there_is_not_is_refused_and_nothing_stays_set() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(PerceptionError, match=f"cpu_affinity cannot be set .*this process may use, .*{CORE}"):
        RealTime(RealTimeSettings(cores=frozenset({1000}))).apply()
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("stranger", [1000, -5, -1, 99999999999999])
def test_one_core_that_there_is_not_is_refused_beside_one_that_there_is(stranger: int) -> None:
    before = os.sched_getaffinity(0)
    allowed = ",".join(map(str, sorted(before)))
    with pytest.raises(PerceptionError, match=rf"\(no core {stranger} for this process\): .* {allowed}, or -1 alone"):
        RealTime(RealTimeSettings(cores=frozenset({CORE, stranger}))).apply()
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_cores_are_compared_with_those_at_first_when_set_once_more() -> None:
    before = os.sched_getaffinity(0)
    subject = RealTime(RealTimeSettings(cores=frozenset({CORE, max(before)})))
    subject.apply()
    try:
        os.sched_setaffinity(0, {CORE})  # as a library does
        subject.apply()
        assert os.sched_getaffinity(0) == {CORE, max(before)}
    finally:
        subject.undo()
    assert os.sched_getaffinity(0) == before


def test_the_priority_is_set_read_back_and_undone_or_refused(another_thread: int) -> None:
    subject = RealTime(RealTimeSettings(priority=5))
    try:
        subject.apply()
    except PerceptionError as error:
        assert "CAP_SYS_NICE" in str(error) and "ulimit -r" in str(error)
    else:
        assert os.sched_getscheduler(another_thread) == os.SCHED_FIFO
        assert os.sched_getparam(another_thread).sched_priority == 5
        assert subject.read_back()["scheduler_priority"] == "FIFO:5"
    subject.undo()
    assert os.sched_getscheduler(another_thread) == os.SCHED_OTHER


def test_locking_below_a_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would succeed now and make an allocation fail later."""
    monkeypatch.setattr(real_time, "_has_capability", lambda number: False)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (65536, 65536))
    with pytest.raises(PerceptionError, match=r"lock_memory cannot be set \(at most 65536 bytes.*CAP_IPC_LOCK"):
        RealTime(RealTimeSettings(lock_memory=True)).apply()


def test_nothing_asked_for_is_nothing_done() -> None:
    subject = RealTime(RealTimeSettings())
    subject.apply()
    assert subject.read_back() == {}
    subject.undo()


def test_the_node_shows_what_is_in_force_and_refuses_what_cannot_be() -> None:
    with Graph() as graph:
        diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        common = ("-p", "backends:=[fake]", "-p", "diagnostics_period_s:=0.1")
        node = graph.start("detector_node", *common, "-p", f"cpu_affinity:=[{CORE}]")
        graph.wait_for_state("detector", "active")
        found = diagnostics.wait_for(
            lambda m: any(v.key == "cpu_affinity" and v.value == str(CORE) for s in m.status for v in s.values)
        )
        assert found
        threads = Path(f"/proc/{node.process.pid}/task").iterdir()
        assert {len(os.sched_getaffinity(int(thread.name))) for thread in threads} == {1}
        assert node.end() == 0
        for refused in (f"[{CORE}, 4000]", f"[-1, {CORE}]"):
            diagnostics.clear()
            node = graph.start("detector_node", *common, "-p", f"cpu_affinity:={refused}")
            diagnostics.wait_for(lambda m: any("cpu_affinity cannot be set" in s.message for s in m.status))
            graph.wait_for_state("detector", "unconfigured")
            assert node.end() == 0


def test_the_collector_waits_for_a_rest_and_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cycle:
        alive = 0

        def __init__(self) -> None:
            self.me = self
            Cycle.alive += 1

        def __del__(self) -> None:
            Cycle.alive -= 1

    before = gc.get_threshold()
    subject = QuietCollector()
    subject.start()
    try:
        for _ in range(10_000):
            Cycle()
        assert Cycle.alive == 10_000
        subject.rest()  # less than a second after the last
        assert Cycle.alive == 10_000
        monkeypatch.setattr("trt_perception.ros.quiet_collection._PERIOD_NS", 0)
        subject.rest()
        assert Cycle.alive == 0
        for _ in range(200_000):
            Cycle()
        assert Cycle.alive < 60_000
    finally:
        subject.stop()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    gc.collect()
