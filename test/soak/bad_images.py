"""Images that no camera should send: fields of every size, contents of every kind, bytes that are no message."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from trt_perception.encodings import ENCODINGS

NUMBERS = (0, 1, 2, 3, 7, 64, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
    *ENCODINGS,
    "",
    "bgr",
    "32FC1",
    "64FC3",
    "8UC5",
    "bayer_",
    "\u00e9\u4e16",
    "x" * 5000,
    "bgr8\n",
    "%s%n",
    "None",
)
STAMPS = (Time(), Time(sec=1), Time(sec=2**31 - 1, nanosec=2**32 - 1), Time(sec=-(2**31)), Time(sec=5))


def good_image(width: int = 64, height: int = 48) -> Image:
    message = Image(header=Header(frame_id="soak"), width=width, height=height, encoding="bgr8", step=3 * width)
    message.data = bytes(3 * width * height)
    return message


def bad_images(rng: random.Random, count: int) -> Iterator[Image | bytes]:
    """Image messages, and their bytes after accidents; now and then one of them is good."""
    for _ in range(count):
        message = good_image(rng.choice((1, 2, 64)), rng.choice((1, 2, 48)))
        for field in rng.sample(
            ("width", "height", "step", "encoding", "data", "is_bigendian", "stamp"), rng.randint(0, 4)
        ):
            _spoil(rng, message, field)
        yield _accident(rng, serialize_message(message)) if rng.random() < 0.3 else message


def bad_compressed(rng: random.Random, count: int) -> Iterator[CompressedImage | bytes]:
    """The same for CompressedImage."""
    pictures = [cv2.imencode(kind, np.full((48, 64, 3), 90, np.uint8))[1].tobytes() for kind in (".jpg", ".png")]
    for _ in range(count):
        data = rng.choice(pictures)
        format_ = rng.choice(("jpeg", "png", "bgr8; jpeg compressed bgr8", *WORDS))
        kind = rng.randrange(5)
        if kind == 0:
            data = data[: rng.randrange(len(data))]
        elif kind == 1:
            data = _flipped(rng, data)
        elif kind == 2:
            data = rng.randbytes(rng.choice((0, 1, 100, 5000)))
        elif kind == 3:
            # A PNG that says of itself that it is as large as a PNG can be.
            data = pictures[1][:16] + rng.choice(NUMBERS).to_bytes(4, "big") * 2 + pictures[1][24:]
        message = CompressedImage(header=Header(stamp=rng.choice(STAMPS)), format=format_, data=data)
        yield _accident(rng, serialize_message(message)) if rng.random() < 0.3 else message


def _spoil(rng: random.Random, message: Any, field: str) -> None:
    if field == "encoding":
        message.encoding = rng.choice(WORDS)
    elif field == "data":
        message.data = rng.randbytes(rng.choice((0, 1, 100, 3 * 64 * 48, 20_000)))
    elif field == "is_bigendian":
        message.is_bigendian = rng.choice((0, 1, 255))
    elif field == "stamp":
        message.header.stamp = rng.choice(STAMPS)
    else:
        setattr(message, field, rng.choice(NUMBERS))


def _accident(rng: random.Random, message: bytes) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return message[: rng.randrange(len(message))]
    if kind == 1:
        return message[:4] + rng.randbytes(len(message) - 4)
    if kind == 2:
        return _flipped(rng, message[:64]) + message[64:]
    return message + rng.randbytes(rng.randrange(1, 100))


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)
