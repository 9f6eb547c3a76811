"""Detections as the bytes that go out: building a hundred message objects and converting them takes milliseconds.

The layout is that of interfaces/vision_msgs; messages.py builds the same as objects.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from rclpy.serialization import deserialize_message
from vision_msgs.msg import Detection2DArray

from trt_perception.errors import PerceptionError
from trt_perception.ros.cdr import CdrWriter
from trt_perception.ros.messages import detections_to_message
from trt_perception.ros.serialized_images import Header
from trt_perception.types import Detections

_STAMP = struct.Struct("<iI")
_SCORE = struct.Struct("<d")
# center.position.x, y, center.theta, size_x, size_y.
_BOX = struct.Struct("<5d")
# geometry_msgs/PoseWithCovariance as nothing sets it: position 0, orientation 1, covariance 0.
_POSE = struct.pack("<43d", *(0.0,) * 6, 1.0, *(0.0,) * 36)
# An empty text.
_NO_ID = b"\1\0\0\0\0"
_OTHER_LAYOUT = (
    "the installed vision_msgs lays Detection2DArray out otherwise than interfaces/vision_msgs says; install the "
    "vision_msgs of Humble or newer, and source no older workspace"
)


def detections_bytes(detections: Detections, header: Header, class_text: Callable[[int], str]) -> bytes:
    """A vision_msgs/Detection2DArray with what messages.detections_to_message puts into one."""
    boxes = detections.boxes_xyxy.astype(np.float64)
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()
    sizes = (boxes[:, 2:] - boxes[:, :2]).tolist()
    scores = np.concatenate((detections.scores[:, np.newaxis], detections.other_scores), axis=1).tolist()
    class_ids = np.concatenate((detections.class_ids[:, np.newaxis], detections.other_class_ids), axis=1).tolist()
    writer = CdrWriter()
    _put_header(writer, header)
    writer.uint32(len(detections))
    # What stands before a detection's first score is the same for one class at one distance from a multiple of 8.
    beginnings: dict[tuple[int, int], bytes] = {}
    for center, size, own_scores, own_ids in zip(centers, sizes, scores, class_ids, strict=True):
        key = (own_ids[0], writer.position % 8)
        if key not in beginnings:
            beginnings[key] = _beginning(writer.position, header, len(own_ids), class_text(own_ids[0]))
        writer.put(beginnings[key] + _SCORE.pack(own_scores[0]) + _POSE)
        for class_id, score in zip(own_ids[1:], own_scores[1:], strict=True):
            writer.text(class_text(class_id).encode())
            writer.align(8)
            writer.put(_SCORE.pack(score) + _POSE)
        writer.put(_BOX.pack(*center, 0.0, *size) + _NO_ID)
    return writer.finish()


def require_known_layout() -> None:
    """Raises PerceptionError when the installed vision_msgs lays Detection2DArray out in another way.

    Bytes of a wrong layout would be nonsense to whoever reads them.
    """
    header = Header(1, 2, b"eye")
    two = Detections(
        np.array([[1, 2, 3, 5], [4, 4, 9, 8]], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([0, 1], np.int64),
        np.array([[0.25], [0.125]], np.float32),
        np.array([[1], [0]], np.int64),
    )
    texts = {0: "a", 1: "longer"}
    try:
        read = deserialize_message(detections_bytes(two, header, texts.__getitem__), Detection2DArray)
        same = read == detections_to_message(two, header.message(), texts)
    # rclpy has nothing narrower for bytes that do not fit, and objects that lack a field raise what they like.
    except Exception as error:
        raise PerceptionError(_OTHER_LAYOUT) from error
    if not same:
        raise PerceptionError(_OTHER_LAYOUT)


def _put_header(writer: CdrWriter, header: Header) -> None:
    writer.align(4)
    writer.put(_STAMP.pack(header.sec, header.nanosec))
    writer.text(header.frame_id)


def _beginning(position: int, header: Header, result_count: int, class_text: str) -> bytes:
    """A detection up to its first score, as it lies at that position."""
    writer = CdrWriter()
    writer.position = position
    _put_header(writer, header)
    writer.uint32(result_count)
    writer.text(class_text.encode())
    writer.align(8)
    return writer.finish()[4:]
