"""Image messages read where they lie: rclpy's own conversion copies every pixel twice more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header as HeaderMessage

from trt_perception.encodings import ENCODINGS, camera_frame, decode_compressed
from trt_perception.errors import ImageError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.ros.cdr import CdrError, CdrReader
from trt_perception.ros.cv_bridge_images import image_by_cv_bridge
from trt_perception.types import Image


@dataclass(frozen=True)
class Header:
    """std_msgs/Header: stamp in seconds and nanoseconds since the clock's zero, frame_id as UTF-8 bytes."""

    sec: int
    nanosec: int
    frame_id: bytes

    @property
    def stamp_ns(self) -> int:
        """The stamp in nanoseconds."""
        return self.sec * 1_000_000_000 + self.nanosec

    def message(self) -> HeaderMessage:
        """The same as a message object."""
        stamp = Time(sec=self.sec, nanosec=self.nanosec)
        return HeaderMessage(stamp=stamp, frame_id=self.frame_id.decode())


@dataclass(frozen=True, eq=False)
class ImageFields:
    """The fields of sensor_msgs/Image; data lies in the message's own memory."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    data: memoryview


@dataclass(frozen=True, eq=False)
class CompressedFields:
    """The fields of sensor_msgs/CompressedImage; data lies in the message's own memory."""

    header: Header
    format: str
    data: memoryview


class SerializedImage:
    """A message as it came. Its fields are read when they are asked for: not of a frame that is replaced unseen.

    Reading a message that is cut off or in no representation that is known raises ImageError.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def header(self) -> Header:
        """Stamp and frame."""
        header: Header = self.fields.header
        return header

    @cached_property
    def fields(self) -> Any:
        """ImageFields or CompressedFields."""
        try:
            return self._read(CdrReader(self.data))
        except CdrError as error:
            raise ImageError(f"the message of {len(self.data)} bytes is damaged: {error}") from error

    def frame(self) -> CameraFrame | Image:
        """The message's own bytes, checked, or the picture where the processor has to decode it; raises ImageError."""
        raise NotImplementedError

    def _read(self, reader: CdrReader) -> Any:
        raise NotImplementedError


class SerializedRaw(SerializedImage):
    """sensor_msgs/Image."""

    def frame(self) -> CameraFrame | Image:
        """See SerializedImage; an encoding that only cv_bridge knows is decoded here."""
        fields: ImageFields = self.fields
        if fields.encoding not in ENCODINGS:
            return image_by_cv_bridge(deserialize_message(self.data, ImageMessage))
        return camera_frame(fields.encoding, fields.width, fields.height, fields.step, fields.data, fields.is_bigendian)

    def _read(self, reader: CdrReader) -> ImageFields:
        return ImageFields(
            header=_header(reader),
            height=reader.uint32(),
            width=reader.uint32(),
            encoding=reader.text(),
            is_bigendian=bool(reader.uint8()),
            step=reader.uint32(),
            data=reader.uint8_sequence(),
        )


class SerializedCompressed(SerializedImage):
    """sensor_msgs/CompressedImage."""

    def frame(self) -> Image:
        """The decoded picture."""
        fields: CompressedFields = self.fields
        return decode_compressed(fields.data, fields.format)

    def _read(self, reader: CdrReader) -> CompressedFields:
        return CompressedFields(_header(reader), reader.text(), reader.uint8_sequence())


SERIALIZED: dict[type[Any], type[SerializedImage]] = {
    ImageMessage: SerializedRaw,
    CompressedImage: SerializedCompressed,
}


def _header(reader: CdrReader) -> Header:
    return Header(reader.int32(), reader.uint32(), reader.text().encode())
