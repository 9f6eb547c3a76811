"""A camera in a process of its own that also hears the detections: what node_to_node.py measures with.

    python -m benchmarks.hot_path.camera_probe FRAMES.npy RATE_HZ

Reads lines from standard input, each a number of images to publish (reliable, depth 10), and answers each with a line
of JSON: for every image its stamp, the nanoseconds from before publish() to the detections' arrival (null when they
did not come within a second), and what the detector says of itself (inference_latency), where it does.
"""

from __future__ import annotations

import array
import json
import struct
import sys
import time
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from pal_statistics_msgs.msg import Statistics
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

_ANSWER_LIMIT_S = 1.0
_START_LIMIT_S = 60.0
# In CDR a message that begins with a header has its stamp behind the four bytes of the encapsulation.
_STAMP = struct.Struct("<iI")


class CameraProbe:
    """Publishes one image at a time and waits for its detections."""

    def __init__(self, frames: Any, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._node = rclpy.create_node("camera")
        self._publisher = self._node.create_publisher(Image, "image_raw", 10)
        # Raw: what this process needs to unpack them is not the detector's.
        self._node.create_subscription(Detection2DArray, "detections", self._on_detections, 10, raw=True)
        self._node.create_subscription(Statistics, "inference_latency", self._on_latency, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._messages = [_message(frame) for frame in frames]
        self._arrived_ns: dict[int, int] = {}
        self._told: dict[int, dict[str, float]] = {}

    def wait_for_detector(self) -> None:
        """Returns when both topics have their other side; raises TimeoutError."""
        end_s = time.monotonic() + _START_LIMIT_S
        while self._publisher.get_subscription_count() == 0 or self._node.count_publishers("detections") == 0:
            if time.monotonic() > end_s:
                raise TimeoutError(f"no detector within {_START_LIMIT_S:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)

    def block(self, count: int) -> list[dict[str, Any]]:
        """Publishes so many images at the rate; see the module for what comes back."""
        rows: list[dict[str, Any]] = []
        next_s = time.monotonic()
        for index in range(count):
            self._spin_until(next_s)
            next_s = max(next_s + self._period_s, time.monotonic())
            message = self._messages[index % len(self._messages)]
            stamp_ns = time.time_ns()
            message.header.stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
            start_ns = time.monotonic_ns()
            self._publisher.publish(message)
            limit_s = time.monotonic() + _ANSWER_LIMIT_S
            while stamp_ns not in self._arrived_ns and time.monotonic() < limit_s:
                self._executor.spin_once(timeout_sec=limit_s - time.monotonic())
            arrived_ns = self._arrived_ns.get(stamp_ns)
            rows.append({"stamp_ns": stamp_ns, "answer_ns": None if arrived_ns is None else arrived_ns - start_ns})
        self._spin_until(time.monotonic() + self._period_s)
        return [{**row, "told": self._told.get(row["stamp_ns"], {})} for row in rows]

    def _spin_until(self, time_s: float) -> None:
        while (left_s := time_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def _on_detections(self, message: bytes) -> None:
        now_ns = time.monotonic_ns()
        seconds, nanoseconds = _STAMP.unpack_from(message, 4)
        self._arrived_ns[seconds * 10**9 + nanoseconds] = now_ns

    def _on_latency(self, message: Any) -> None:
        stamp = message.header.stamp
        self._told[stamp.sec * 10**9 + stamp.nanosec] = {entry.name: entry.value for entry in message.statistics}


def _message(frame: Any) -> Any:
    height, width, _ = frame.shape
    message = Image(height=height, width=width, encoding="bgr8", step=3 * width)
    message.header.frame_id = "camera"
    message.data = array.array("B", frame.tobytes())
    return message


def main() -> None:
    """Runs until standard input ends."""
    frames, rate_hz = np.load(sys.argv[1]), float(sys.argv[2])
    rclpy.init()
    probe = CameraProbe(frames, rate_hz)
    probe.wait_for_detector()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(probe.block(int(line))), flush=True)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
