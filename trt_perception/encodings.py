"""Camera encodings: the bytes of a message become a picture, without a copy where the memory allows.

Knows the names of sensor_msgs/image_encodings, but nothing of ROS.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from trt_perception.errors import ImageError
from trt_perception.picture_header import picture_size
from trt_perception.pixel_layouts import CameraFrame, Layout, bayer, image_of_array, packed, yuv_420, yuv_422, yuv_444
from trt_perception.types import AnyArray, ColorOrder, Image

# One line an encoding. OpenCV's names for plain arrays mean what OpenCV's own pictures hold: grey, BGR, BGRA.
ENCODINGS: dict[str, Layout] = {
    "bgr8": packed("bgr"),
    "rgb8": packed("rgb"),
    "bgra8": packed("bgra"),
    "rgba8": packed("rgba"),
    "mono8": packed("gray"),
    "8UC1": packed("gray"),
    "8UC3": packed("bgr"),
    "8UC4": packed("bgra"),
    "bgr16": packed("bgr", 2),
    "rgb16": packed("rgb", 2),
    "bgra16": packed("bgra", 2),
    "rgba16": packed("rgba", 2),
    "mono16": packed("gray", 2),
    "16UC1": packed("gray", 2),
    "16UC3": packed("bgr", 2),
    "16UC4": packed("bgra", 2),
    "yuv422": yuv_422(cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": yuv_422(cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": yuv_422(cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": yuv_422(cv2.COLOR_YUV2BGR_YUY2),
    "nv12": yuv_420(cv2.COLOR_YUV2BGR_NV12),
    "nv21": yuv_420(cv2.COLOR_YUV2BGR_NV21),
    "nv24": yuv_444(),
    "bayer_rggb8": bayer(cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": bayer(cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": bayer(cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": bayer(cv2.COLOR_BayerGB2BGR),
    "bayer_rggb16": bayer(cv2.COLOR_BayerBG2BGR, 2),
    "bayer_bggr16": bayer(cv2.COLOR_BayerRG2BGR, 2),
    "bayer_gbrg16": bayer(cv2.COLOR_BayerGR2BGR, 2),
    "bayer_grbg16": bayer(cv2.COLOR_BayerGB2BGR, 2),
}

_PACKED_8_BITS: dict[ColorOrder, str] = {
    "bgr": "bgr8",
    "rgb": "rgb8",
    "bgra": "bgra8",
    "rgba": "rgba8",
    "gray": "mono8",
}

# A few bytes can claim to be a picture that takes gigabytes; 2**26 pixels are twice what 8K video has.
MOST_COMPRESSED_PIXELS = 1 << 26

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def camera_frame(encoding: str, width: int, height: int, step: int, data: Any, big_endian: bool = False) -> CameraFrame:
    """A message's bytes with what is needed to read them, checked and not copied: it lives as long as they do.

    width, height: pixels of the picture; step: bytes a row, padding included; data: anything with the buffer
    protocol; big_endian: 16-bit samples have their more significant byte first.
    Raises ImageError that names the field which is wrong, before anything is allocated.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise ImageError(f"encoding {encoding!r} is not supported; publish one of {', '.join(ENCODINGS)}")
    _check_size(encoding, layout, width, height)
    row_bytes = width * layout.bytes_per_pixel
    if step < row_bytes:
        raise ImageError(f"step is {step}; a row of {width} {encoding} pixels takes {row_bytes} bytes")
    rows = layout.rows(height)
    # The last row may lack its padding.
    needed = step * (rows - 1) + row_bytes
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size < needed:
        of = "" if rows == height else f" of {height} rows of {encoding} pixels"
        raise ImageError(f"data has {buffer.size} bytes; {rows} rows with step {step} take {needed}{of}")
    # The step of a single row is never taken, whatever it is.
    return CameraFrame(encoding, buffer, width, height, min(step, needed), big_endian)


def decode_frame(frame: CameraFrame) -> Image:
    """The picture in a frame; of 8-bit packed encodings nothing is copied."""
    return ENCODINGS[frame.encoding].convert(frame)


def decode_image(encoding: str, width: int, height: int, step: int, data: Any, big_endian: bool = False) -> Image:
    """camera_frame and decode_frame in one."""
    return decode_frame(camera_frame(encoding, width, height, step, data, big_endian))


def frame_of_image(image: Image) -> CameraFrame:
    """The same pixels as a frame of a packed encoding; copied only where they do not lie side by side in rows."""
    pixels = image.pixels
    height, width, channels = pixels.shape
    step = pixels.strides[0]
    if pixels.strides[1:] != (channels, 1) or step < width * channels:
        pixels, step = np.ascontiguousarray(pixels), width * channels
    if step == width * channels:
        buffer = pixels.reshape(-1)
    else:
        buffer = np.lib.stride_tricks.as_strided(pixels, (step * (height - 1) + width * channels,), (1,))
    return CameraFrame(_PACKED_8_BITS[image.color_order], buffer, width, height, step)


def decode_compressed(data: Any, format: str = "") -> Image:
    """A picture from JPEG or PNG bytes, upright as they store it (orientation tags are not for cameras).

    format: the message's field. image_transport puts a Bayer mosaic into a grey PNG as it is, and says so there alone:
    `bayer_rggb8; png compressed `.
    Raises ImageError when the data is neither.
    """
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size == 0:
        raise ImageError("data is empty; expected a JPEG or PNG picture")
    content = buffer.tobytes()
    if _is_cut_off(content):
        raise ImageError(f"data ({buffer.size} bytes) is a JPEG picture without its end; part of the message is lost")
    width, height = picture_size(content)
    if width * height > MOST_COMPRESSED_PIXELS:
        raise ImageError(
            f"data ({buffer.size} bytes) is a picture of {width}x{height}; expected at most {MOST_COMPRESSED_PIXELS} "
            "pixels"
        )
    try:
        # Unchanged: 16 bits are scaled as those of raw images are, and grey stays grey.
        pixels = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"data cannot be decoded ({error.err}); expected a JPEG or PNG picture") from error
    if pixels is None:
        raise ImageError(f"data ({buffer.size} bytes) is no JPEG or PNG picture, or a damaged one")
    encoding, _, stored_as = format.partition(";")
    if encoding.startswith("bayer_") and pixels.ndim == 2 and "mono" not in stored_as:
        return _decode_mosaic(encoding, pixels)
    return image_of_array(pixels)


def _is_cut_off(data: bytes) -> bool:
    """True for a JPEG picture that ends early: OpenCV 4.6, for one, fills the rest with grey and says nothing.

    The marker of the end cannot occur inside the coded picture (ITU-T T.81, B.1.1.5), which begins at the scan marker.
    """
    return data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)


def _decode_mosaic(encoding: str, samples: AnyArray) -> Image:
    layout = ENCODINGS.get(encoding)
    if layout is not None and layout.bytes_per_pixel != samples.itemsize:
        raise ImageError(f"format is {encoding!r}, but the picture has samples of {8 * samples.itemsize} bits")
    height, width = samples.shape
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    return decode_image(encoding, width, height, width * samples.itemsize, data)


def _check_size(encoding: str, layout: Layout, width: int, height: int) -> None:
    smallest = layout.smallest_side
    if width < smallest or height < smallest:
        raise ImageError(f"width x height is {width} x {height}; both must be at least {smallest} for {encoding}")
    for name, value, even in (("width", width, layout.even_width), ("height", height, layout.even_height)):
        if even and value % 2:
            raise ImageError(f"{name} is {value}; {encoding} needs an even one, since its pixels share their colour")
