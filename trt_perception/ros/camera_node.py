"""The node `camera`: publishes `image_raw` where there is no camera driver: files, a video, a webcam, a scene."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from trt_perception.errors import ImageError
from trt_perception.ros import qos
from trt_perception.ros.diagnostics import ERROR, OK, DiagnosticsPublisher, Status
from trt_perception.ros.messages import image_to_message
from trt_perception.ros.parameters import ParameterSpec, declare_parameters
from trt_perception.ros.run_node import run_node
from trt_perception.sources import SCENE, open_source
from trt_perception.types import Uint8Array

# encoding → OpenCV's conversion from BGR, None where there is nothing to convert.
_CONVERSIONS: dict[str, int | None] = {
    "bgr8": None,
    "rgb8": cv2.COLOR_BGR2RGB,
    "bgra8": cv2.COLOR_BGR2BGRA,
    "rgba8": cv2.COLOR_BGR2RGBA,
    "mono8": cv2.COLOR_BGR2GRAY,
}

_SUBSCRIBER_POLL_S = 0.02

PARAMETERS = [
    ParameterSpec(
        "source", SCENE, "a picture, a folder of pictures, a video, a webcam's number, or `scene`", read_only=True
    ),
    ParameterSpec("width", 640, "pixels; of the scene, and a wish to a webcam", 96, 16384, read_only=True),
    ParameterSpec("height", 480, "pixels; of the scene, and a wish to a webcam", 96, 16384, read_only=True),
    ParameterSpec("rate_hz", 30.0, "pictures a second", 0.01, 1000, read_only=True),
    ParameterSpec("loop", True, "begin again at the end of files or a video", read_only=True),
    ParameterSpec("frame_id", "camera", "frame_id of every image", read_only=True),
    ParameterSpec("encoding", "bgr8", "of image_raw", choices=tuple(_CONVERSIONS), read_only=True),
    ParameterSpec(
        "publish_compressed", False, "publish image_raw/compressed (JPEG) instead of image_raw", read_only=True
    ),
    ParameterSpec("frame_count", 0, "stop publishing after so many pictures; 0: never", 0, 2**53, read_only=True),
    ParameterSpec(
        "wait_for_subscriber", False, "publish the first picture when somebody can receive it", read_only=True
    ),
    ParameterSpec("diagnostics_period_s", 1.0, "time between two /diagnostics messages", 0.01, 3600, read_only=True),
]


class CameraNode(Node):
    """Publishes pictures at a steady rate from a thread of its own, and counts them."""

    def __init__(self, **options: Any) -> None:
        super().__init__("camera", **options)
        declare_parameters(self, PARAMETERS)
        self._encoding = self._value("encoding")
        if self._encoding not in _CONVERSIONS:
            raise ImageError(f"encoding is {self._encoding!r}; expected one of {', '.join(_CONVERSIONS)}")
        self._compressed = self._value("publish_compressed")
        kind, topic = (CompressedImage, "image_raw/compressed") if self._compressed else (ImageMessage, "image_raw")
        self._publisher = self.create_publisher(kind, topic, **qos.overridable(qos.IMAGE_PUBLISHER))
        self._sent = 0
        self._late = 0
        self._problem: str | None = None
        self._finished = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._diagnostics = DiagnosticsPublisher(self, self._value("diagnostics_period_s"), self._statuses)

    def start(self) -> None:
        """Begins to publish."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                source = stack.enter_context(
                    open_source(
                        self._value("source"),
                        width=self._value("width"),
                        height=self._value("height"),
                        loop=self._value("loop"),
                    )
                )
                self.get_logger().info(f"publishes {source.name} on {self._publisher.topic_name}")
                self._publish_all(picture for _, picture in source.pictures)
        except ImageError as error:
            self._problem = str(error)
            self.get_logger().error(str(error))

    def _publish_all(self, pictures: Any) -> None:
        period_ns = round(1e9 / self._value("rate_hz"))
        limit = self._value("frame_count")
        frame_id = self._value("frame_id")
        while self._value("wait_for_subscriber") and self._publisher.get_subscription_count() == 0:
            if self._ended.wait(_SUBSCRIBER_POLL_S):
                return
        due_ns = time.monotonic_ns()
        for picture in pictures:
            wait_ns = due_ns - time.monotonic_ns()
            if self._ended.wait(max(wait_ns, 0) / 1e9):
                return
            header = Header(stamp=self.get_clock().now().to_msg(), frame_id=frame_id)
            self._publisher.publish(self._to_message(picture, header))
            self._sent += 1
            if limit and self._sent >= limit:
                break
            due_ns += period_ns
            if time.monotonic_ns() > due_ns + period_ns:
                # Too slow for the rate: go on from now instead of catching up in a burst.
                self._late += 1
                due_ns = time.monotonic_ns()
        self._finished = True
        self.get_logger().info(f"all {self._sent} pictures are published")

    def _to_message(self, picture: Uint8Array, header: Header) -> Any:
        if self._compressed:
            good, data = cv2.imencode(".jpg", picture)
            if not good:
                raise ImageError("OpenCV could not encode the picture as JPEG")
            return CompressedImage(header=header, format="jpeg", data=data.tobytes())
        code = _CONVERSIONS[self._encoding]
        pixels = np.asarray(picture if code is None else cv2.cvtColor(picture, code), np.uint8)
        height, width = picture.shape[:2]
        return image_to_message(pixels.reshape(height, width, -1), self._encoding, header)

    def _statuses(self) -> list[Status]:
        values = {
            "topic": self._publisher.topic_name,
            "sent_count": self._sent,
            "late_count": self._late,
            "subscribers": self._publisher.get_subscription_count(),
        }
        if self._problem is not None:
            return [Status("camera", ERROR, self._problem, values)]
        return [Status("camera", OK, "finished" if self._finished else "publishes", values)]


def main() -> int:
    """Entry point of the executable camera_node."""
    return run_node(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
