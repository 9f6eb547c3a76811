"""Detector and budget monitor as two processes over real DDS, with a backend of known busy time; and the governor."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from pal_statistics_msgs.msg import Statistics
from vision_msgs.msg import Detection2DArray

from test.ros.graph import Graph, Mailbox, grey, values_of

FAKE = ("-p", "backends:=[fake]", "-p", "diagnostics_period_s:=0.2")
WINDOW_S, HOLD_S = 4.0, 0.5
SMALL = grey(64, 48)


class Robot:
    """A detector, and a camera of 20 Hz in the test's process."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._camera = graph.camera()
        self._camera.wait_for_subscriber()
        # Every other frame meets a tick of the 50 Hz loop, so that no inference of 3 ms crosses one.
        self._due_s = time.time() // 0.1 * 0.1 + 0.105

    def see(self, seconds: float) -> None:
        """Sends an image every 50 ms."""
        for _ in range(round(seconds * 20)):
            time.sleep(max(0.0, self._due_s - time.time()))
            self._camera.send(SMALL, stamp=self.graph.node.get_clock().now().to_msg())
            self._due_s += 0.05

    def see_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, f"not within {timeout_s} s"
            self.see(0.2)

    def take(self, inference_ms: float) -> None:
        """From now on each inference takes so long."""
        self.graph.set_parameters("detector", fake__busy_ms=inference_ms)
        assert self.graph.set_parameters("detector", backends=["fake"])[0].successful


@contextmanager
def detecting(*arguments: str) -> Iterator[Robot]:
    with Graph() as graph:
        graph.start("detector_node", *FAKE, *arguments)
        graph.wait_for_state("detector", "active")
        yield Robot(graph)


def budgets_in(mailbox: Mailbox) -> list[dict[str, float]]:
    return [values_of(message) for message in mailbox.messages]


def status_in(mailbox: Mailbox, ending: str) -> Any:
    """The newest status of that name."""
    found = [s for message in mailbox.messages for s in message.status if s.name.endswith(ending)]
    return found[-1] if found else None


def test_the_monitor_tells_what_the_detector_takes() -> None:
    with detecting("-p", "fake.busy_ms:=3.0") as robot:
        budget = robot.graph.listen(Statistics, "control_budget")
        robot.graph.start("budget_monitor_node", "-p", f"window_s:={WINDOW_S}", "-p", f"hold_s:={HOLD_S}")
        robot.see_until(lambda: bool(budget.messages), 30.0)

        def of_full_windows() -> list[dict[str, float]]:
            return [b for b in budgets_in(budget) if b.get("inference_count", 0.0) >= 20 * WINDOW_S - 4]

        robot.see_until(lambda: len(of_full_windows()) >= 9, 60.0)

        def usual(name: str) -> float:
            # A machine that is held up for a moment makes one of them much larger, not the middle one.
            return statistics.median(b[name] for b in of_full_windows())

        assert usual("latency_ratio_percent") == pytest.approx(15.0, abs=2.0)
        assert usual("inference_share_p50_percent") == pytest.approx(15.0, abs=2.0)
        assert usual("all_periods_share_mean_percent") == pytest.approx(6.0, abs=2.0)

        robot.take(25.0)
        robot.see(WINDOW_S)
        assert budgets_in(budget)[-1]["verdict_level"] == 2.0
        robot.take(3.0)
        budget.clear()
        robot.see_until(lambda: budgets_in(budget)[-1:] != [] and budgets_in(budget)[-1]["verdict_level"] < 2.0, 30.0)
        levels = [level for level, _ in itertools.groupby(values["verdict_level"] for values in budgets_in(budget))]
        assert levels[0] == 2.0
        assert levels == sorted(levels, reverse=True)


def test_the_governor_holds_inference_at_its_share_and_detections_flow() -> None:
    with detecting("-p", "fake.busy_ms:=30.0", "-p", "max_inference_share:=0.2") as robot:
        latency = robot.graph.listen(Statistics, "inference_latency")
        detections = robot.graph.listen(Detection2DArray, "detections")
        diagnostics = robot.graph.listen(DiagnosticArray, "/diagnostics")
        robot.see_until(lambda: bool(latency.messages and detections.messages), 30.0)
        robot.see(2.0)
        latency.clear()
        detections.clear()
        begin_s = time.monotonic()
        robot.see(10.0)
        elapsed_s = time.monotonic() - begin_s
        busy_s = sum(values_of(message)["inference_ms"] for message in latency.messages) / 1e3
        assert busy_s / elapsed_s == pytest.approx(0.2, abs=0.03)

        stamps_ns = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in detections.messages]
        assert stamps_ns == sorted(stamps_ns)
        assert max(later - earlier for earlier, later in itertools.pairwise(stamps_ns)) < 0.5e9
        ages_ms = [values_of(message)["image_age_ms"] for message in latency.messages]
        assert sorted(ages_ms)[len(ages_ms) // 2] < 50.0 + 30.0
        message = status_in(diagnostics, "inference share").message
        assert message.startswith("max_inference_share holds inference at 20 % of the time: it takes ")
        assert int(message.split()[-4]) > 100

        robot.graph.set_parameters("detector", max_inference_share=0.0)
        latency.clear()
        robot.see(3.0)
        # Held at its share it would be 20, and 60 were sent, some of which a busy machine may drop.
        assert len(latency.messages) > 30
