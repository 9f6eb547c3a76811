"""JPEG and PNG pictures in compressed image messages."""

from __future__ import annotations

import array
import struct
import zlib

import cv2
import numpy as np
import pytest

from test.camera_encodings import encode
from test.unit.test_encodings import scene
from trt_perception.annotate import to_bgr
from trt_perception.encodings import decode_compressed, decode_image
from trt_perception.errors import ImageError
from trt_perception.types import AnyArray


def compress(pixels: AnyArray, suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, color_type: int, rows: bytes, *more: bytes) -> bytes:
    """From the PNG specification, since OpenCV writes few of the kinds that it reads."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    body = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 6)])
def test_colour(suffix: str, tolerance: int) -> None:
    image = decode_compressed(array.array("B", compress(scene(), suffix)))
    assert (image.color_order, image.width, image.height) == ("bgr", 64, 48)
    assert np.abs(image.pixels.astype(int) - scene()).max() <= tolerance


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 2)])
def test_grey_stays_grey(suffix: str, tolerance: int) -> None:
    image = decode_compressed(compress(scene()[:, :, 0], suffix))
    assert (image.color_order, image.pixels.shape) == ("gray", (48, 64, 1))
    assert np.abs(image.pixels[:, :, 0].astype(int) - scene()[:, :, 0]).max() <= tolerance


@pytest.mark.parametrize(("channels", "encoding", "order"), [(1, "mono16", "gray"), (3, "bgr16", "bgr")])
def test_a_png_of_16_bits_is_the_same_as_a_raw_image(channels: int, encoding: str, order: str) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype("<u2")
    image = decode_compressed(compress(samples))
    raw = decode_image(encoding, 7, 5, 14 * channels, samples.tobytes())
    assert image.color_order == raw.color_order == order
    np.testing.assert_array_equal(image.pixels, raw.pixels)


@pytest.mark.parametrize(
    ("data", "order", "pixels"),
    [
        (png(2, 1, 8, 6, b"\0" + bytes(range(1, 9))), "bgra", [[3, 2, 1, 4], [7, 6, 5, 8]]),
        (png(2, 1, 8, 4, b"\0\x10\xff\x20\x80"), "bgra", [[16, 16, 16, 255], [32, 32, 32, 128]]),
        (png(2, 1, 8, 3, b"\0\0\1", chunk(b"PLTE", b"\1\2\3\xff\0\0")), "bgr", [[3, 2, 1], [0, 0, 255]]),
        (png(8, 1, 1, 0, b"\0\xaa"), "gray", [[255], [0]] * 4),
    ],
    ids=["colour and alpha", "grey and alpha", "palette", "one bit"],
)
def test_every_kind_of_png(data: bytes, order: str, pixels: list[list[int]]) -> None:
    image = decode_compressed(data)
    assert image.color_order == order
    assert image.pixels[0].tolist() == pixels


def test_an_orientation_tag_turns_nothing() -> None:
    # Boxes are in the pixels of the image as it was sent.
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    plain = compress(scene(), ".jpg")
    tagged = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    image = decode_compressed(tagged)
    np.testing.assert_array_equal(image.pixels, decode_compressed(plain).pixels)


@pytest.mark.parametrize("encoding", ["bayer_rggb8", "bayer_grbg8", "bayer_gbrg16", "bayer_bggr16"])
def test_a_mosaic_in_a_png_is_what_its_format_says(encoding: str) -> None:
    raw = encode(scene(), encoding)
    samples = np.frombuffer(raw.data, "<u2" if "16" in encoding else np.uint8).reshape(48, 64)
    image = decode_compressed(compress(samples), f"{encoding}; png compressed ")
    np.testing.assert_array_equal(image.pixels, decode_image(encoding, 64, 48, raw.step, raw.data).pixels)
    assert np.abs(to_bgr(image).astype(int) - scene())[1:-1, 1:-1].max() <= 4


def test_a_mosaic_that_was_interpolated_before_is_grey() -> None:
    image = decode_compressed(compress(scene()[:, :, 0], ".jpg"), "bayer_rggb8; jpeg compressed mono8")
    assert image.color_order == "gray"


@pytest.mark.parametrize("format", ["", "jpeg", "png", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed "])
def test_what_the_format_says_of_a_colour_picture_changes_nothing(format: str) -> None:
    np.testing.assert_array_equal(decode_compressed(compress(scene()), format).pixels, scene())


def damaged_pixels(png: bytes) -> bytes:
    """The same with another compression method, of which there is none."""
    start = png.index(b"IDAT") + 4
    return png[:start] + b"\xff" + png[start + 1 :]


@pytest.mark.parametrize(
    ("data", "format", "words"),
    [
        (b"", "", "data is empty"),
        (b"not a picture", "", r"data \(13 bytes\) is no JPEG or PNG picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "", "is no JPEG or PNG picture; it begins with"),
        (compress(scene())[:-60], "", "is a PNG picture without its end; part of the message is lost"),
        (damaged_pixels(compress(scene())), "", "is no JPEG or PNG picture, or a damaged one"),
        (compress(scene(), ".jpg")[:-2], "", "is a JPEG picture without its end; part of the message is lost"),
        (compress(scene(), ".jpg")[:700], "", "is a JPEG picture without its end"),
        (compress(scene().astype(np.float32), ".tiff"), "", "is no JPEG or PNG picture; it begins with b'II"),
        (compress(scene()[:, :, 0]), "bayer_rggb16; png compressed ", "'bayer_rggb16', but .* samples of 8 bits"),
        (compress(scene()[:, :, 0]), "bayer_xyzw8; png compressed ", "encoding 'bayer_xyzw8' is not supported"),
    ],
    ids=["none", "text", "no size", "cut png", "damaged png", "without end", "cut jpeg", "tiff", "bits", "unknown"],
)
def test_bytes_that_are_no_picture(data: bytes, format: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode_compressed(data, format)


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm() -> None:
    data = compress(scene(), ".jpg")
    np.testing.assert_array_equal(decode_compressed(data + bytes(16)).pixels, decode_compressed(data).pixels)
