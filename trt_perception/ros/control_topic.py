"""Listens for the arrivals of a topic of whatever type, without looking at what they say."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from trt_perception.ros import qos

_LOOK_PERIOD_S = 0.5


def message_class(type_name: str) -> Any:
    """The class of `package/msg/Name`; raises ImportError or AttributeError where it is not installed."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


class ControlTopic:
    """Subscribes raw to a topic once it is there, and tells the time of each arrival (ns, the node's clock).

    `problem` says why nothing is listened to yet, None when the subscription stands.
    """

    def __init__(self, node: Node, topic: str, arrived: Callable[[int], None]) -> None:
        self._node = node
        self._arrived = arrived
        # The subscription remaps the name itself, and would remap a resolved one once more.
        self._name = topic
        self.topic = node.resolve_topic_name(topic)
        self.problem: str | None = f"nobody publishes or takes the control topic {self.topic} yet"
        # A group of its own: an arrival that waits for a report would look like jitter of the loop.
        self._group = MutuallyExclusiveCallbackGroup()
        self._timer = node.create_timer(_LOOK_PERIOD_S, self._look, callback_group=self._group)
        self._look()

    def _look(self) -> None:
        types = dict(self._node.get_topic_names_and_types()).get(self.topic, [])
        if not types:
            return
        if len(types) > 1:
            self.problem = (
                f"the control topic {self.topic} has several types: {', '.join(types)}; give one that has one"
            )
            return
        try:
            message = message_class(types[0])
        except (ImportError, AttributeError) as error:
            self.problem = f"the control topic's type {types[0]} is not installed here: {error}; install its package"
            return
        self._node.create_subscription(
            message,
            self._name,
            self._on_message,
            raw=True,
            callback_group=self._group,
            **qos.overridable(
                QoSProfile(depth=qos.MONITOR_SUBSCRIPTION.depth, reliability=ReliabilityPolicy.BEST_EFFORT)
            ),
        )
        self._timer.cancel()
        self.problem = None

    def _on_message(self, _serialized: bytes, info: Mapping[str, Any]) -> None:
        clock = self._node.get_clock()
        # The middleware's own reading is free of this process's delays, but it knows no simulated time.
        received_ns = 0 if clock.ros_time_is_active else int(info.get("received_timestamp", 0))
        self._arrived(received_ns or clock.now().nanoseconds)
