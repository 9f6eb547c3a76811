"""Follows `control_budget` from outside the monitor: the figures as they come, and the share of each recent period."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import rclpy
from pal_statistics_msgs.msg import Statistics
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from trt_perception.control_budget import (
    BudgetThresholds,
    ControlPeriod,
    UnitedBudget,
    inference_interval_ns,
    named_sentence,
    topics_in,
)
from trt_perception.control_budget.terminal import BudgetView
from trt_perception.errors import PerceptionError
from trt_perception.ros import qos
from trt_perception.ros.messages import stamp_ns, statistics_values

_NEEDED = {
    "verdict_level",
    "control_period_ms",
    "control_phase_ms",
    "window_s",
    "borderline_threshold_percent",
    "over_threshold_percent",
}


class BudgetFollower:
    """Listens to a monitor and to the latency topics that it speaks of.

    The figures are the monitor's. They say nothing of single periods, so the shares to draw are computed here, from
    the same messages, with the period and the phase that the monitor publishes.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self._budget: UnitedBudget | None = None
        self._named: dict[str, float] = {}
        self.topic = node.resolve_topic_name(topic)
        node.create_subscription(Statistics, self.topic, self._on_budget, qos.RESULTS)
        self._received = 0

    @property
    def received(self) -> int:
        """How many `control_budget` messages came."""
        return self._received

    def view(self) -> BudgetView | None:
        """What is known now; None before the first message."""
        if not self._named:
            return None
        return BudgetView(self._named, named_sentence(self._named), [share for _, share in self.shares()])

    def shares(self) -> list[tuple[int, float]]:
        """Start (ns) and busy share (0-1) of every complete period seen within the monitor's window."""
        return [] if self._budget is None else self._budget.shares(self._now_ns())

    def thresholds(self) -> BudgetThresholds:
        """The monitor's thresholds."""
        return BudgetThresholds(
            borderline_share=self._named["borderline_threshold_percent"] / 100.0,
            over_share=self._named["over_threshold_percent"] / 100.0,
            margin_share=0.0,
        )

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _on_budget(self, message: Statistics) -> None:
        named = statistics_values(message)
        missing = sorted(_NEEDED - named.keys())
        if missing:
            raise PerceptionError(
                f"a message on {self.topic} has no {missing[0]}; expected those of budget_monitor_node: name its topic"
            )
        self._named = named
        self._received += 1
        # The tick nearest to now: see ControlPeriod on periods that change a little.
        period_ns = round(self._named["control_period_ms"] * 1e6)
        phase_ns = round(self._named["control_phase_ms"] * 1e6)
        now_ns = stamp_ns(message.header.stamp)
        period = ControlPeriod(period_ns, now_ns - (now_ns - phase_ns) % period_ns)
        if self._budget is None:
            topics = topics_in(self._named)
            self._budget = UnitedBudget(topics, period, window_ns=round(self._named["window_s"] * 1e9))
            for topic in topics:
                self._node.create_subscription(
                    Statistics, topic, partial(self._on_latency, topic), qos.MONITOR_SUBSCRIPTION
                )
        self._budget.set_period(period)

    def _on_latency(self, topic: str, message: Statistics) -> None:
        assert self._budget is not None, "subscribed after it was made"
        try:
            start_ns, end_ns = inference_interval_ns(stamp_ns(message.header.stamp), statistics_values(message))
        except ValueError:
            return  # the monitor reports it in /diagnostics
        self._budget.add(topic, start_ns, end_ns, self._now_ns())


@contextmanager
def follow_budget(topic: str) -> Iterator[tuple[BudgetFollower, Callable[[float], None]]]:
    """A follower of `topic`, and a function that takes what arrives within the given seconds.

    Ctrl-C stays Python's own KeyboardInterrupt.
    """
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("follow_budget")
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def listen(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            executor.spin_once(timeout_sec=left)

    try:
        yield BudgetFollower(node, topic), listen
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
