"""A detector node as people write it: the yardstick of node_to_node.py. It stays as it is.

    python -m benchmarks.hot_path.straightforward_node MODEL.onnx SIDE SCORE_THRESHOLD TIMES.json

When it ends it writes how long session.run took for each image, by the image's stamp in nanoseconds.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from benchmarks.hot_path.straightforward import postprocess, preprocess


class YoloNode(Node):
    """Subscribes to images, runs the network in the callback, publishes boxes."""

    def __init__(self, model: str, side: int, score_threshold: float) -> None:
        super().__init__("yolo_node")
        self.side = side
        self.score_threshold = score_threshold
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.input_name = self.session.get_inputs()[0].name
        self.run_ns: dict[int, int] = {}
        self.publisher = self.create_publisher(Detection2DArray, "detections", 10)
        self.subscription = self.create_subscription(Image, "image_raw", self.on_image, 10)

    def on_image(self, message: Any) -> None:
        """Detects and publishes."""
        frame = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        blob, scale, left, top = preprocess(frame, self.side)
        start = time.monotonic_ns()
        outputs = self.session.run(None, {self.input_name: blob})
        stamp = message.header.stamp
        self.run_ns[stamp.sec * 10**9 + stamp.nanosec] = time.monotonic_ns() - start
        result = Detection2DArray()
        result.header = message.header
        for (x, y, width, height), score, class_id in postprocess(
            outputs[0], scale, left, top, self.score_threshold, 0.45
        ):
            detection = Detection2D()
            detection.header = message.header
            detection.bbox.center.position.x = x + width / 2
            detection.bbox.center.position.y = y + height / 2
            detection.bbox.size_x = width
            detection.bbox.size_y = height
            hypothesis = ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = str(class_id)
            hypothesis.hypothesis.score = score
            detection.results.append(hypothesis)
            result.detections.append(detection)
        self.publisher.publish(result)


def main() -> None:
    """Runs until SIGINT."""
    model, side, score_threshold, times = sys.argv[1:5]
    rclpy.init()
    node = YoloNode(model, int(side), float(score_threshold))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        Path(times).write_text(json.dumps(node.run_ns))


if __name__ == "__main__":
    main()
