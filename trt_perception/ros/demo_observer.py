"""What the demo watches: every topic of the graph, from outside, as a user's node would."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from pal_statistics_msgs.msg import Statistics
from rclpy.executors import ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image as ImageMessage
from vision_msgs.msg import Detection2DArray

from trt_perception.control_budget import BudgetThresholds
from trt_perception.control_budget.terminal import BudgetView
from trt_perception.errors import PerceptionError
from trt_perception.ros import qos
from trt_perception.ros.follow_budget import BudgetFollower
from trt_perception.ros.messages import image_from_message, statistics_values
from trt_perception.types import Uint8Array

_BUDGET_PERIOD_S = 0.25


@dataclass
class Seen:
    """Everything seen so far; samples by name in the unit that the name ends in."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    diagnostics: dict[str, tuple[int, str, Mapping[str, str]]] = field(default_factory=dict)
    budget: BudgetView | None = None
    budget_shares: list[tuple[int, float]] = field(default_factory=list)
    budget_thresholds: BudgetThresholds | None = None
    found: list[str] = field(default_factory=list)
    picture: Uint8Array | None = None


class DemoObserver(Node):
    """Collects into `seen`; read it through snapshot()."""

    def __init__(self) -> None:
        super().__init__("demo_observer")
        self._seen = Seen()
        self._lock = threading.Lock()
        self._latency_s = 0.0
        self.create_subscription(Statistics, "inference_latency", self._on_latency, qos.MONITOR_SUBSCRIPTION)
        self.create_subscription(Detection2DArray, "detections", self._on_detections, qos.RESULTS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.RESULTS)
        self._follower = BudgetFollower(self, "control_budget")
        self.create_timer(_BUDGET_PERIOD_S, self._take_budget)

    def require_alone(self) -> None:
        """Raises PerceptionError when another detector is in this domain: both would be counted together."""
        others = [f"{space.rstrip('/')}/{name}" for name, space in self.get_node_names_and_namespaces()]
        if others.count("/detector") > 1:
            raise PerceptionError(
                f"another /detector runs in ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}; unset ROS_DOMAIN_ID or "
                "choose another one for the demo"
            )

    def watch_annotated_image(self) -> None:
        """Subscribes to annotated_image, which the detector draws only from then on."""
        self.create_subscription(ImageMessage, "annotated_image", self._on_annotated, qos.IMAGE_SUBSCRIPTION)

    @contextmanager
    def looking(self) -> Iterator[Seen]:
        """Gives what was seen, which does not change inside the `with` block."""
        with self._lock:
            yield self._seen

    def _on_latency(self, message: Statistics) -> None:
        self._latency_s = time.monotonic()
        with self._lock:
            for name, value in statistics_values(message).items():
                self._seen.samples.setdefault(name, []).append(value)

    def _take_budget(self) -> None:
        view = self._follower.view()
        # When the camera has finished, the window that was full of inference is the one to keep.
        if view is not None and time.monotonic() - self._latency_s < 2 * _BUDGET_PERIOD_S:
            with self._lock:
                self._seen.budget = view
                self._seen.budget_shares = self._follower.shares()
                self._seen.budget_thresholds = self._follower.thresholds()

    def _on_detections(self, message: Detection2DArray) -> None:
        found = [f"{d.results[0].hypothesis.class_id} {d.results[0].hypothesis.score:.2f}" for d in message.detections]
        with self._lock:
            self._seen.found = found

    def _on_annotated(self, message: ImageMessage) -> None:
        with self._lock:
            self._seen.picture = np.array(image_from_message(message).pixels)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        with self._lock:
            for status in message.status:
                values = {entry.key: entry.value for entry in status.values}
                level = int.from_bytes(status.level, "little")
                self._seen.diagnostics[status.name] = (level, status.message, values)


@contextmanager
def observing() -> Iterator[DemoObserver]:
    """Runs an observer on a thread of its own; shuts ROS down at the end, in the order that rclpy needs."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = DemoObserver()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), name="observer", daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        thread.join(5.0)
        node.destroy_node()
        rclpy.try_shutdown()


def _spin(executor: Any) -> None:
    with suppress(ShutdownException):
        executor.spin()
