"""A reliable subscriber to both results, of endless history, that never takes a message."""

from __future__ import annotations

import signal
import sys

import rclpy
from pal_statistics_msgs.msg import Statistics
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from vision_msgs.msg import Detection2DArray


def main() -> None:
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("deaf")
    profile = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
    for kind, topic in ((Detection2DArray, "detections"), (Statistics, "inference_latency")):
        node.create_subscription(kind, topic, lambda _: None, profile)
    print("deaf", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    sys.exit(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
