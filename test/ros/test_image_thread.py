"""The thread that takes images: real subscriptions over DDS, beside an executor that leaves them alone."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from std_msgs.msg import String

from test.ros.graph import Graph
from trt_perception.ros.image_thread import ImageThread, TakenElsewhere

TIMEOUT_S = 10.0


class Taking:
    """Two subscriptions of the test's node and the thread that takes from them."""

    def __init__(self, graph: Graph) -> None:
        self.heard: list[tuple[str, str, int, str]] = []
        self.failures: list[Exception] = []
        self.fail = False
        self.publishers = {name: graph.node.create_publisher(String, name, 10) for name in "ab"}
        self.subscriptions = [self._subscribe(graph, name) for name in "ab"]
        self.thread = ImageThread(graph.node.context, self.failures.append)
        self.thread.start(self.subscriptions)

    def _subscribe(self, graph: Graph, name: str) -> Any:
        def hear(message: Any, info: Any) -> None:
            if self.fail:
                raise RuntimeError("cannot be heard")
            number = info["publication_sequence_number"]
            self.heard.append((name, message.data, number, threading.current_thread().name))

        return graph.node.create_subscription(String, name, hear, 10, callback_group=TakenElsewhere())

    def say(self, name: str, text: str) -> None:
        self.publishers[name].publish(String(data=text))

    def wait_for(self, count: int) -> None:
        end_s = time.monotonic() + TIMEOUT_S
        while len(self.heard) + len(self.failures) < count:
            assert time.monotonic() < end_s, (self.heard, self.failures)
            time.sleep(0.005)


def test_it_takes_from_all_until_it_is_stopped() -> None:
    with Graph() as graph:
        taking = Taking(graph)
        for publisher in taking.publishers.values():
            graph.wait_until(lambda p=publisher: p.get_subscription_count() > 0, "the subscription")  # type: ignore[misc]
        for number in range(5):
            taking.say("a", str(number))
            taking.say("b", str(number))
        taking.wait_for(10)
        for name in "ab":
            assert [text for n, text, _, _ in taking.heard if n == name] == list("01234")
            assert [number for n, _, number, _ in taking.heard if n == name] == [1, 2, 3, 4, 5]
        assert {thread for *_, thread in taking.heard} == {"images"}
        taking.thread.stop()
        taking.thread.stop()
        taking.say("a", "late")
        time.sleep(0.3)
        assert len(taking.heard) == 10
        assert "images" not in [thread.name for thread in threading.enumerate()]
        for subscription in taking.subscriptions:
            graph.node.destroy_subscription(subscription)


def test_what_a_callback_raises_is_told() -> None:
    with Graph() as graph:
        taking = Taking(graph)
        graph.wait_until(lambda: taking.publishers["a"].get_subscription_count() > 0, "the subscription")
        taking.fail = True
        taking.say("a", "x")
        taking.wait_for(1)
        assert str(taking.failures[0]) == "cannot be heard"
        taking.thread.stop()
