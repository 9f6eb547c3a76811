"""Messages read and written as bytes are what rclpy reads and writes, and damaged ones are refused."""

from __future__ import annotations

import array
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header as HeaderMessage
from vision_msgs.msg import Detection2DArray

from trt_perception.errors import ImageError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.ros.messages import detections_to_message
from trt_perception.ros.serialized_images import Header, SerializedCompressed, SerializedRaw
from trt_perception.ros.serialized_results import detections_bytes, require_known_layout
from trt_perception.types import Detections

UINT32 = st.integers(0, 2**32 - 1)
# What a text in a ROS message can hold: no zero, no half of a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
HEADERS = st.builds(
    HeaderMessage,
    stamp=st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=UINT32),
    frame_id=TEXT,
)
BYTES = st.binary(max_size=40).map(lambda data: array.array("B", data))
IMAGES = st.builds(
    Image,
    header=HEADERS,
    height=UINT32,
    width=UINT32,
    encoding=TEXT,
    is_bigendian=st.integers(0, 1),
    step=UINT32,
    data=BYTES,
)
COMPRESSED = st.builds(CompressedImage, header=HEADERS, format=TEXT, data=BYTES)


def big_endian(message: Any) -> bytes:
    """An Image as a machine of the other byte order sends it, written field by field."""
    body = bytearray()

    def number(code: str, value: int) -> None:
        size = struct.calcsize(code)
        body.extend(bytes(-len(body) % size) + struct.pack(f">{code}", value))

    def text(value: str) -> None:
        number("I", len(value.encode()) + 1)
        body.extend(value.encode() + b"\0")

    number("i", message.header.stamp.sec)
    number("I", message.header.stamp.nanosec)
    text(message.header.frame_id)
    number("I", message.height)
    number("I", message.width)
    text(message.encoding)
    number("B", message.is_bigendian)
    number("I", message.step)
    number("I", len(message.data))
    return b"\0\0\0\0" + bytes(body) + bytes(message.data)


def assert_header(read: Header, wanted: Any) -> None:
    assert (read.sec, read.nanosec, read.frame_id.decode()) == (
        wanted.stamp.sec,
        wanted.stamp.nanosec,
        wanted.frame_id,
    )
    assert read.message() == wanted


def assert_image(data: bytes, wanted: Any) -> None:
    fields = SerializedRaw(data).fields
    assert_header(fields.header, wanted.header)
    for name in ("height", "width", "encoding", "is_bigendian", "step"):
        assert getattr(fields, name) == getattr(wanted, name), name
    assert bytes(fields.data) == bytes(wanted.data)


@given(IMAGES)
def test_an_image_is_what_rclpy_wrote(message: Any) -> None:
    assert_image(serialize_message(message), message)


@given(IMAGES)
def test_the_other_byte_order_is_what_rclpy_reads(message: Any) -> None:
    data = big_endian(message)
    assert deserialize_message(data, Image) == message
    assert_image(data, message)


@given(COMPRESSED)
def test_a_compressed_image_is_what_rclpy_wrote(message: Any) -> None:
    fields = SerializedCompressed(serialize_message(message)).fields
    assert_header(fields.header, message.header)
    assert (fields.format, bytes(fields.data)) == (message.format, bytes(message.data))


def picture() -> Any:
    data = array.array("B", range(18))
    header = HeaderMessage(stamp=Time(sec=5, nanosec=6), frame_id="eye")
    return Image(header=header, height=2, width=3, encoding="bgr8", step=9, data=data)


def test_a_frame_lies_in_the_message_itself() -> None:
    data = serialize_message(picture())
    frame = SerializedRaw(data).frame()
    assert isinstance(frame, CameraFrame)
    assert np.shares_memory(frame.buffer, np.frombuffer(data, np.uint8))
    assert (frame.encoding, frame.width, frame.height, frame.step) == ("bgr8", 3, 2, 9)
    assert frame.buffer.tolist() == list(range(18))


@pytest.mark.parametrize("kind", [SerializedRaw, SerializedCompressed])
def test_every_message_that_is_cut_off_is_refused(kind: Any) -> None:
    message = picture() if kind is SerializedRaw else CompressedImage(format="jpeg", data=b"12345")
    data = serialize_message(message)
    for length in range(len(data) - 1):
        with pytest.raises(ImageError, match=f"the message of {length} bytes is damaged"):
            _ = kind(data[:length]).fields
    with pytest.raises(ImageError, match=r"begins with 00 07 00 00; expected plain CDR"):
        _ = kind(b"\0\7" + data[2:]).header


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    for kind in (SerializedRaw, SerializedCompressed):
        for prefix in (b"", b"\0\1\0\0", b"\0\0\0\0"):
            try:
                _ = kind(prefix + data).fields
            except ImageError:
                continue


@pytest.mark.parametrize("position", [12, 28, 44])
def test_a_length_that_lies_takes_no_memory(position: int) -> None:
    data = bytearray(serialize_message(picture()))
    (length,) = struct.unpack_from("<I", data, position)
    assert length in (4, 5, 18)  # frame_id, encoding, data
    struct.pack_into("<I", data, position, 2**32 - 1)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="4294967295 bytes are announced"):
            _ = SerializedRaw(bytes(data)).fields
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


FLOAT32 = st.floats(-1e6, 1e6, width=32)


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    """Up to six boxes with up to two further classes each; class 3 has a long name."""
    count, others = draw(st.integers(0, 6)), draw(st.integers(0, 2))

    def numbers(elements: st.SearchStrategy[Any], kind: Any, *shape: int) -> Any:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(elements, min_size=size, max_size=size)), kind).reshape(shape)

    scores, classes = st.floats(0, 1, width=32), st.integers(0, 3)
    return Detections(
        numbers(FLOAT32, np.float32, count, 4),
        numbers(scores, np.float32, count),
        numbers(classes, np.int64, count),
        numbers(scores, np.float32, count, others),
        numbers(classes, np.int64, count, others),
    )


@settings(max_examples=200)
@given(detections(), HEADERS, st.lists(TEXT, min_size=4, max_size=4))
def test_detections_are_read_as_the_message_that_they_stand_for(
    found: Detections, message_header: Any, names: list[str]
) -> None:
    texts = dict(enumerate(names))
    stamp = message_header.stamp
    header = Header(stamp.sec, stamp.nanosec, message_header.frame_id.encode())
    data = detections_bytes(found, header, texts.__getitem__)
    assert deserialize_message(data, Detection2DArray) == detections_to_message(found, message_header, texts)


def test_another_layout_of_the_installed_messages_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from trt_perception.errors import PerceptionError
    from trt_perception.ros import serialized_results

    require_known_layout()
    # A package whose pose has no covariance.
    monkeypatch.setattr(serialized_results, "_POSE", struct.pack("<7d", *(0.0,) * 6, 1.0))
    with pytest.raises(PerceptionError, match="the installed vision_msgs lays Detection2DArray out otherwise"):
        require_known_layout()
