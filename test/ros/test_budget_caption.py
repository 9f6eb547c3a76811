"""The line on annotated_image, with a real monitor and without one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from pal_statistics_msgs.msg import Statistics
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from test.ros.graph import Graph, grey
from trt_perception.control_budget import ControlPeriod, UnitedBudget, named_report
from trt_perception.ros import budget_caption, qos
from trt_perception.ros.budget_caption import BudgetCaption
from trt_perception.ros.messages import statistics_message

MS = 1_000_000


def named(*topics: str) -> dict[str, float]:
    """What a monitor of 50 Hz says of 3 ms of inference in every fifth period."""
    budget = UnitedBudget(topics, ControlPeriod.from_rate_hz(50.0))
    for start_ns in range(0, 5000 * MS, 100 * MS):
        for topic in topics:
            budget.add(topic, start_ns, start_ns + 3 * MS, start_ns + 4 * MS)
    return named_report(budget.report(5000 * MS), None)


def test_it_says_what_the_monitor_says_while_it_says_it(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    caption = BudgetCaption(graph.node)
    assert caption.text(8.72) == ""
    caption.show(True)
    caption.show(True)
    assert caption.text(8.72) == "total 8.7 ms"
    publisher = graph.node.create_publisher(Statistics, "control_budget", qos.RESULTS)
    graph.wait_until(lambda: publisher.get_subscription_count() == 1, "the subscription")

    def said(figures: dict[str, float], words: str) -> None:
        publisher.publish(statistics_message(Header(), figures))
        graph.wait_until(lambda: caption.text(8.72) == words, f"{words}, not {caption.text(8.72)}")

    said(named("a"), "total 8.7 ms, inference 15 % of 20 ms, real_time")
    said(named("a", "b") | {"verdict_level": 2.0}, "total 8.7 ms, inference 15 % of 20 ms, over_budget")
    said({"verdict_level": 3.0, "window_s": 10.0}, "total 8.7 ms, no inference within the last 10 s")
    monkeypatch.setattr(budget_caption, "_STALE_S", 0.0)
    assert caption.text(8.72) == "total 8.7 ms"
    caption.show(False)
    assert caption.text(8.72) == ""
    graph.wait_until(lambda: publisher.get_subscription_count() == 0, "the end of the subscription")


@pytest.mark.parametrize(
    "figures", [{}, {"verdict_level": 7.0}, {"verdict_level": float("nan")}, {"verdict_level": 1e400}]
)
def test_messages_of_others_change_nothing_and_are_told(graph: Graph, figures: dict[str, float]) -> None:
    told: list[str] = []

    class Node:
        def __getattr__(self, name: str) -> Any:
            return getattr(graph.node, name)

        def get_logger(self) -> Any:
            class Logger:
                def warning(self, words: str, **_: Any) -> None:
                    told.append(words)

            return Logger()

    node: Any = Node()
    caption = BudgetCaption(node)
    caption.show(True)
    caption._on_budget(statistics_message(Header(), named("a")))
    caption._on_budget(statistics_message(Header(), figures))
    assert caption.text(1.0) == "total 1.0 ms, inference 15 % of 20 ms, real_time"
    assert len(told) == 1 and re.search(r"a message on /control_budget is none of budget_monitor_node's", told[0])


def test_the_picture_bears_it_while_the_parameter_is_set(graph: Graph) -> None:
    graph.start("detector_node", "-p", "backends:=[fake]")
    graph.start("budget_monitor_node")
    annotated = graph.listen(Image, "annotated_image", qos.IMAGE_SUBSCRIPTION)
    camera = graph.camera()
    camera.wait_for_subscriber()

    def has_line() -> bool:
        annotated.clear()
        camera.send(grey(), stamp=graph.node.get_clock().now().to_msg())
        graph.wait_until(lambda: bool(annotated.messages) or camera.send(grey()) is None, "a picture", pause_s=0.1)
        pixels = np.frombuffer(annotated.messages[-1].data, np.uint8).reshape(480, 640, 3)
        assert (pixels[:100] == 127).all()
        return bool((pixels[-12:] != 127).any())

    assert not has_line()
    assert graph.set_parameters("detector", annotate_latency=True)[0].successful
    graph.wait_until(has_line, "the line")
    graph.wait_until(lambda: graph.node.count_subscribers("control_budget") == 1, "a listener to the monitor")
    assert graph.set_parameters("detector", annotate_latency=False)[0].successful
    graph.wait_until(lambda: not has_line(), "no line")
