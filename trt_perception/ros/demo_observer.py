"""What the demo watches: every topic of the graph, from outside, as a user's node would."""

from __future__ import annotations

import threading
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

from trt_perception.ros import qos
from trt_perception.ros.messages import image_from_message, statistics_values
from trt_perception.types import Uint8Array


@dataclass
class Seen:
    """Everything seen so far; samples by name in the unit that the name ends in."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    diagnostics: dict[str, tuple[int, str, Mapping[str, str]]] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    best_picture: Uint8Array | None = None
    best_count: int = -1


class DemoObserver(Node):
    """Collects into `seen`; read it through snapshot()."""

    def __init__(self) -> None:
        super().__init__("demo_observer")
        self._seen = Seen()
        self._lock = threading.Lock()
        self._counts_by_stamp: dict[tuple[int, int], int] = {}
        self.create_subscription(Statistics, "inference_latency", self._on_latency, qos.MONITOR_SUBSCRIPTION)
        self.create_subscription(Statistics, "control_budget", self._on_budget, qos.RESULTS)
        self.create_subscription(Detection2DArray, "detections", self._on_detections, qos.RESULTS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.RESULTS)

    def watch_annotated_image(self) -> None:
        """Subscribes to annotated_image, which the detector draws only from then on."""
        self.create_subscription(ImageMessage, "annotated_image", self._on_annotated, qos.IMAGE_SUBSCRIPTION)

    @contextmanager
    def looking(self) -> Iterator[Seen]:
        """Gives what was seen, which does not change inside the `with` block."""
        with self._lock:
            yield self._seen

    def _on_latency(self, message: Statistics) -> None:
        with self._lock:
            for name, value in statistics_values(message).items():
                self._seen.samples.setdefault(name, []).append(value)

    def _on_budget(self, message: Statistics) -> None:
        with self._lock:
            self._seen.budget = statistics_values(message)

    def _on_detections(self, message: Detection2DArray) -> None:
        found = [f"{d.results[0].hypothesis.class_id} {d.results[0].hypothesis.score:.2f}" for d in message.detections]
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        with self._lock:
            self._seen.found = found
            self._counts_by_stamp[stamp] = len(found)

    def _on_annotated(self, message: ImageMessage) -> None:
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        with self._lock:
            count = self._counts_by_stamp.get(stamp, 0)
            if count >= self._seen.best_count:
                self._seen.best_count = count
                self._seen.best_picture = np.array(image_from_message(message).pixels)

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
