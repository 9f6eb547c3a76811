"""Serialised messages, as they come over DDS: image messages are read from their bytes without rclpy."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from test.fuzz.mutate import mutated
from test.fuzz.target import Target


@cache
def _messages() -> tuple[tuple[Any, bytes], ...]:
    """The class that reads a kind of message, and one of that kind."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage, Image

    from trt_perception.ros.serialized_images import SerializedCompressed, SerializedRaw

    raw = Image(height=4, width=4, encoding="bgr8", step=12, data=bytes(range(48)))
    raw.header.frame_id = "camera"
    raw.header.stamp.sec = 5
    compressed = CompressedImage(format="jpeg", data=bytes(range(48)))
    return (SerializedRaw, serialize_message(raw)), (SerializedCompressed, serialize_message(compressed))


def image_message(random: Random) -> None:
    kind, data = random.choice(_messages())
    message = kind(mutated(random, data))
    assert message.header.stamp_ns >= -(2**63)
    message.header.message()
    message.frame()


TARGETS = (Target("image_message", image_message, 3.0),)
