"""What it costs to get an image out of rclpy: as a message object, and as the bytes in which it came.

`python -m benchmarks.image_intake` in the activated environment publishes images from this process to one that takes
them either way, in turns, with this package's Fast DDS profile (shared memory), and prints the time from before
publish() to pixels in an array, and what deserialize_message alone takes.
"""

from __future__ import annotations

import array
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from trt_perception.dds_environment import with_dds_variables
from trt_perception.resources import share_directory
from trt_perception.ros import qos
from trt_perception.ros.serialized_images import SerializedRaw

SIZES = ((640, 480), (1280, 720), (1920, 1080))
WAYS = ("message", "bytes")
_ROUNDS, _BLOCK, _PERIOD_S = 4, 50, 0.04
# The first images find cold caches and a middleware that still connects.
_LEFT_OUT = 5


def receive(way: str) -> None:
    """The receiving process: tells when it is ready, takes until nothing has come for a second, prints times in ns."""
    rclpy.init()
    node = rclpy.create_node("receiver")
    taken_ns: list[int] = []

    def on_message(message: Any) -> None:
        stamp, pixels = message.header.stamp, np.frombuffer(message.data, np.uint8)
        note(stamp.sec * 10**9 + stamp.nanosec, pixels)

    def on_bytes(data: bytes) -> None:
        fields = SerializedRaw(data).fields
        note(fields.header.stamp_ns, np.frombuffer(fields.data, np.uint8))

    def note(sent_ns: int, pixels: Any) -> None:
        assert pixels[-1] == 0
        taken_ns.append(time.monotonic_ns() - sent_ns)

    callback = on_bytes if way == "bytes" else on_message
    node.create_subscription(Image, "image", callback, qos.IMAGE_SUBSCRIPTION, raw=way == "bytes")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    print("ready", flush=True)
    newest_s, count = time.monotonic() + 5.0, 0
    while time.monotonic() - newest_s < 1.0:
        executor.spin_once(timeout_sec=0.2)
        if len(taken_ns) > count:
            newest_s, count = time.monotonic(), len(taken_ns)
    print(json.dumps(taken_ns), flush=True)
    rclpy.shutdown()


def between_processes_ms(publisher: Any, message: Any) -> dict[str, list[float]]:
    """Times by way; every block has a receiver of its own."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(_ROUNDS):
        for way in WAYS if turn % 2 else WAYS[::-1]:
            command = [sys.executable, "-m", "benchmarks.image_intake", way]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
                assert receiver.stdout is not None
                receiver.stdout.readline()
                while publisher.get_subscription_count() != 1:
                    time.sleep(0.02)
                time.sleep(0.5)
                for _ in range(_BLOCK):
                    now_ns = time.monotonic_ns()
                    message.header.stamp = Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9)
                    publisher.publish(message)
                    time.sleep(_PERIOD_S)
                found[way] += [ns / 1e6 for ns in json.loads(receiver.stdout.readline())[_LEFT_OUT:]]
    return found


def deserialise_ms(message: Any) -> float:
    """Median of deserialize_message alone."""
    data, spent = serialize_message(message), []
    for _ in range(_BLOCK):
        start_ns = time.monotonic_ns()
        deserialize_message(data, Image)
        spent.append((time.monotonic_ns() - start_ns) / 1e6)
    return statistics.median(spent)


def main() -> int:
    """Prints a line for each size and one of JSON."""
    if len(sys.argv) > 1:
        receive(sys.argv[1])
        return 0
    os.environ.update(with_dds_variables(os.environ, share_directory() / "config"))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    publisher = rclpy.create_node("camera").create_publisher(Image, "image", qos.IMAGE_PUBLISHER)
    document = {}
    for width, height in SIZES:
        message = Image(width=width, height=height, step=3 * width, encoding="bgr8")
        message.data = array.array("B", bytes(3 * width * height))
        found = between_processes_ms(publisher, message)
        medians = {way: statistics.median(found[way]) for way in WAYS}
        p95 = {way: float(np.percentile(found[way], 95)) for way in WAYS}
        ratio = medians["bytes"] / medians["message"]
        alone_ms = deserialise_ms(message)
        print(
            f"{width}x{height}: message {medians['message']:.2f} ms (p95 {p95['message']:.2f}), bytes "
            f"{medians['bytes']:.2f} ms (p95 {p95['bytes']:.2f}), ratio {ratio:.2f}; "
            f"deserialising alone {alone_ms:.2f} ms",
            flush=True,
        )
        document[f"{width}x{height}"] = {
            **{f"{way}_p50_ms": medians[way] for way in WAYS},
            **{f"{way}_count": len(found[way]) for way in WAYS},
            "deserialise_p50_ms": alone_ms,
        }
    print(json.dumps(document))
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
