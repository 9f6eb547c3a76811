"""What the node says of the detector that runs: in the log and on label_info."""

from __future__ import annotations

from rclpy.node import Node
from vision_msgs.msg import LabelInfo

from trt_perception.detector import Detector
from trt_perception.ros import qos
from trt_perception.ros.messages import label_info_message


class DetectorAnnouncement:
    """Owns the publisher of label_info."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._labels = node.create_publisher(LabelInfo, "label_info", **qos.overridable(qos.LATCHED))

    def announce(self, detector: Detector) -> None:
        """Call it when another detector runs."""
        logger = self._node.get_logger()
        info = detector.info
        message = f"model {detector.model.name} on {info.backend}, {info.device} ({info.device_name}), {info.precision}"
        logger.info(message)
        logger.info(f"head {detector.recognised.name}: {detector.recognised.reason}")
        for note in info.notes:
            logger.warning(note)
        if info.fallback_reason is not None:
            logger.warning(f"fallback: {info.fallback_reason}")
        self.publish_labels(detector)

    def publish_labels(self, detector: Detector) -> None:
        """Call it when the thresholds are others."""
        stamp = self._node.get_clock().now().to_msg()
        self._labels.publish(label_info_message(detector.model, detector.thresholds.score, stamp))


def what_runs(detector: Detector) -> str:
    """In a line, for the answer to a service."""
    info = detector.info
    return f"{info.backend} on {info.device} runs" + (f"; {info.fallback_reason}" if info.fallback_reason else "")
