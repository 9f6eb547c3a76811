"""A camera process that sends the same small picture at a high rate; says on standard output when it sent the
first one, and the first one that somebody could receive.

`python -m test.soak.camera RATE_HZ`; ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading
import time

import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from trt_perception.ros import qos
from trt_perception.ros.messages import image_to_message

WIDTH_PX, HEIGHT_PX = 64, 48


def main() -> None:
    period_s = 1 / float(sys.argv[1])
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("soak_camera")
    publisher = node.create_publisher(Image, "image", qos.IMAGE_PUBLISHER)
    message = image_to_message(np.full((HEIGHT_PX, WIDTH_PX, 3), 127, np.uint8), "bgr8", Header(frame_id="soak"))
    due_s = time.monotonic()
    sent = heard = 0
    while not ended.wait(max(due_s - time.monotonic(), 0)):
        if sent == 0:
            print(f"first {time.monotonic()}", flush=True)
        if heard == 0 and (heard := publisher.get_subscription_count()) > 0:
            print(f"heard {time.monotonic()}", flush=True)
        sent += 1
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        due_s = max(due_s + period_s, time.monotonic() - period_s)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
