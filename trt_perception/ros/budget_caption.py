"""The line on annotated_image: how long the frame took, and what the budget monitor says of its period."""

from __future__ import annotations

import time

from pal_statistics_msgs.msg import Statistics
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription

from trt_perception.control_budget import named_caption
from trt_perception.ros import qos
from trt_perception.ros.messages import statistics_values

# The monitor speaks five times a second; what is older says nothing of the present.
_STALE_S = 2.0


class BudgetCaption:
    """Listens to control_budget while it is shown: the share and the period are the monitor's, a learned one too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._shown = False
        self._subscription: Subscription | None = None
        # The monitor's words, and when they came (time.monotonic).
        self._budget: tuple[str, float] = ("", 0.0)

    def show(self, shown: bool) -> None:
        """Begins or ends to listen; a second call does nothing."""
        if shown == self._shown:
            return
        # First: parameters of the subscription's quality of service are declared below, and each asks for this again.
        self._shown = shown
        if shown:
            self._subscription = self._node.create_subscription(
                Statistics,
                "control_budget",
                self._on_budget,
                callback_group=MutuallyExclusiveCallbackGroup(),
                **qos.overridable(qos.RESULTS),
            )
        elif self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def text(self, total_ms: float) -> str:
        """What stands on a frame that took so long; empty while it is not shown."""
        if not self._shown:
            return ""
        words, came_s = self._budget
        budget = f", {words}" if words and time.monotonic() - came_s < _STALE_S else ""
        return f"total {total_ms:.1f} ms{budget}"

    def _on_budget(self, message: Statistics) -> None:
        try:
            self._budget = (named_caption(statistics_values(message)), time.monotonic())
        # Of another node's message: a name that is missing, a verdict that there is none of, no number at all.
        except (KeyError, ValueError, OverflowError) as error:
            topic = self._node.resolve_topic_name("control_budget")
            self._node.get_logger().warning(
                f"a message on {topic} is none of budget_monitor_node's ({type(error).__name__}: {error}); let nobody "
                "else publish there",
                throttle_duration_sec=5.0,
            )
