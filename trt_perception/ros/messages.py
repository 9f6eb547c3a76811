"""ROS messages to the core's types and back; nothing else in the package knows a message's fields."""

from __future__ import annotations

import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from pal_statistics_msgs.msg import Statistic, Statistics
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)

from trt_perception.encodings import ENCODINGS, decode_image
from trt_perception.model_file import ModelFile
from trt_perception.ros.cv_bridge_images import image_by_cv_bridge
from trt_perception.types import Detections, Image, Uint8Array


def image_from_message(message: ImageMessage) -> Image:
    """The decoded picture, of 8-bit packed pixels the message's own bytes. Raises ImageError that names a wrong field.

    The detector reads the serialised message instead (serialized_images.py).
    """
    if message.encoding not in ENCODINGS:
        return image_by_cv_bridge(message)
    return decode_image(
        message.encoding, message.width, message.height, message.step, message.data, bool(message.is_bigendian)
    )


def image_to_message(pixels: Uint8Array, encoding: str, header: Header) -> ImageMessage:
    """A message from a uint8 (height, width, channels) array of that encoding's channel order."""
    height, width, channels = pixels.shape
    message = ImageMessage(header=header, height=height, width=width, encoding=encoding, step=width * channels)
    # Assigning an ndarray makes rclpy check every byte in Python; an array.array is taken as it is.
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


def detections_to_message(detections: Detections, header: Header, class_texts: Mapping[int, str]) -> Detection2DArray:
    """Boxes as centre and size in pixels of the image as received; `id` stays empty, since nothing is tracked.

    The detector writes the same as bytes (serialized_results.py), which this is the reference for.

    A classifier's further classes are further results of the same detection.
    """
    boxes = detections.boxes_xyxy.astype(np.float64)
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()
    sizes = (boxes[:, 2:] - boxes[:, :2]).tolist()
    scores = detections.scores.tolist()
    message = Detection2DArray(header=header)
    message.detections = [
        Detection2D(
            header=header,
            results=[_hypothesis(class_texts[i], s) for i, s in ((class_id, score), *zip(*others, strict=True))],
            bbox=BoundingBox2D(
                center=Pose2D(position=Point2D(x=center[0], y=center[1])), size_x=size[0], size_y=size[1]
            ),
        )
        for center, size, score, class_id, *others in zip(
            centers,
            sizes,
            scores,
            detections.class_ids.tolist(),
            detections.other_class_ids.tolist(),
            detections.other_scores.tolist(),
            strict=True,
        )
    ]
    return message


def _hypothesis(class_text: str, score: float) -> ObjectHypothesisWithPose:
    return ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=class_text, score=score))


class ClassTexts(dict[int, str]):
    """class_id as text: the model's name for it, or its number (`class_id_format: index`)."""

    def __init__(self, model: ModelFile, class_id_format: str) -> None:
        super().__init__()
        self._model = model
        self._by_name = class_id_format == "name"

    def __missing__(self, class_id: int) -> str:
        text = self._model.label(class_id) if self._by_name else str(class_id)
        self[class_id] = text
        return text


def label_info_message(model: ModelFile, score_threshold: float, stamp: Time) -> LabelInfo:
    """Which class has which name, and the threshold in force."""
    message = LabelInfo(header=Header(stamp=stamp), threshold=float(score_threshold))
    message.class_map = [VisionClass(class_id=index, class_name=name) for index, name in enumerate(model.labels)]
    return message


def statistics_message(header: Header, values: Mapping[str, float]) -> Statistics:
    """Named numbers; every name ends in its unit."""
    return Statistics(header=header, statistics=[Statistic(name=n, value=float(v)) for n, v in values.items()])


def statistics_values(message: Any) -> dict[str, float]:
    """The named numbers of a Statistics message."""
    entries: Iterable[Any] = message.statistics
    return {entry.name: entry.value for entry in entries}


def stamp_ns(stamp: Time) -> int:
    """A message's stamp in nanoseconds since the clock's zero."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
