"""Four cameras on one detector, over real DDS: batches, and who gets how much when inference is the bottleneck."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray
from pal_statistics_msgs.msg import Statistics

from test.ros.graph import Graph, Mailbox, grey, values_of

NAMES = ("front", "left", "right", "rear")
CAMERAS = ("-p", f"camera_names:=[{','.join(NAMES)}]", "-p", "diagnostics_period_s:=0.2")
SMALL = grey(64, 48)
FAIR_SHARE = 0.8


class Robot:
    """A detector of four cameras; each camera has its own rate in a thread of its own."""

    def __init__(self, graph: Graph, *arguments: str) -> None:
        self.graph = graph
        graph.start("detector_node", *CAMERAS, *arguments)
        self.cameras = {name: graph.camera(f"{name}/image") for name in NAMES}
        self.latency = {name: graph.listen(Statistics, f"{name}/inference_latency") for name in NAMES}
        self.diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        for camera in self.cameras.values():
            camera.wait_for_subscriber()

    def see(self, seconds: float, **rates_hz: float) -> None:
        end_s = time.monotonic() + seconds

        def film(name: str, rate_hz: float) -> None:
            while time.monotonic() < end_s:
                self.cameras[name].send(SMALL, stamp=self.graph.node.get_clock().now().to_msg())
                time.sleep(1 / rate_hz)

        threads = [threading.Thread(target=film, args=item) for item in rates_hz.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def until_heard(self) -> None:
        end_s = time.monotonic() + 30
        while not all(mailbox.messages for mailbox in self.latency.values()):
            assert time.monotonic() < end_s
            self.see(0.3, **dict.fromkeys(NAMES, 10.0))
        for mailbox in self.latency.values():
            mailbox.clear()

    def values(self, status: str) -> dict[str, str]:
        newest = self.diagnostics.messages[-1].status
        found = next(s for s in newest if s.name.endswith(status))
        return {v.key: v.value for v in found.values}


@pytest.mark.parametrize("max_batch", [0, 1])
def test_no_camera_starves_under_overload(graph: Graph, max_batch: int) -> None:
    robot = Robot(graph, "-p", "backends:=[fake]", "-p", "fake.busy_ms:=40.0", "-p", f"max_batch:={max_batch}")
    robot.until_heard()
    # Each alone sends more than the 25 a second that are possible, so that the fair share is a quarter for each.
    robot.see(6.0, front=80.0, left=60.0, right=50.0, rear=40.0)
    counts = {name: len(mailbox.messages) for name, mailbox in robot.latency.items()}
    assert min(counts.values()) >= FAIR_SHARE * sum(counts.values()) / len(NAMES), counts
    sizes = {values_of(m)["batch_size_count"] for mailbox in robot.latency.values() for m in mailbox.messages}
    assert max(sizes) == (1.0 if max_batch == 1 else 4.0)
    time.sleep(0.5)
    for name in NAMES:
        values = robot.values(f"input {name}")
        assert int(values["received_count"]) == int(values["processed_count"]) + int(values["dropped_count"])
    dropped = {name: int(robot.values(f"input {name}")["dropped_count"]) for name in NAMES}
    assert dropped["front"] > dropped["rear"] > 0


def test_no_camera_starves_when_inference_may_take_only_a_share(graph: Graph) -> None:
    robot = Robot(graph, "-p", "backends:=[fake]", "-p", "fake.busy_ms:=10.0", "-p", "max_inference_share:=0.25")
    robot.until_heard()
    robot.see(8.0, **dict.fromkeys(NAMES, 30.0))
    counts = {name: len(mailbox.messages) for name, mailbox in robot.latency.items()}
    assert min(counts.values()) >= FAIR_SHARE * sum(counts.values()) / len(NAMES), counts


def test_the_demo_model_takes_four_cameras_in_one_run(graph: Graph) -> None:
    robot = Robot(graph, "-p", "max_batch_wait_ms:=500.0")
    robot.until_heard()
    for name in NAMES:
        robot.cameras[name].send(SMALL)
    values = [values_of(newest(robot.latency[name])) for name in NAMES]
    assert [v["batch_size_count"] for v in values] == [4.0] * 4
    assert len({v["inference_ms"] for v in values}) == 1
    # The images have one stamp; the clocks are compared anew for each, so that the starts differ a little. In turn they
    # would differ by three runs.
    starts_ms = [v["inference_start_offset_ms"] for v in values]
    assert max(starts_ms) - min(starts_ms) < values[0]["inference_ms"]


def test_a_graph_that_was_exported_for_one_picture_takes_one_at_a_time(graph: Graph) -> None:
    robot = Robot(graph, "-p", "backends:=[fake]", "-p", "fake.output:=one_of_a_batch")
    robot.until_heard()
    robot.see(1.0, **dict.fromkeys(NAMES, 30.0))
    for mailbox in robot.latency.values():
        assert {values_of(m)["batch_size_count"] for m in mailbox.messages} == {1.0}
    assert robot.values("inference")["max_batch"] == "1"


def newest(mailbox: Mailbox) -> Any:
    mailbox.wait_for(lambda m: m.header.stamp.sec == 1)  # as TestCamera.send stamps
    return next(m for m in reversed(mailbox.messages) if m.header.stamp.sec == 1)
