from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest

from trt_perception.encodings import decode_compressed
from trt_perception.errors import ImageError
from trt_perception.picture_header import picture_size


def encoded(width: int, height: int, suffix: str, *flags: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return bytes(cv2.imencode(suffix, pixels, flags)[1].tobytes())


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(1, 1), (640, 480), (3, 1000)])
def test_it_says_what_was_written(size: tuple[int, int], suffix: str) -> None:
    assert picture_size(encoded(*size, suffix)) == size


def test_a_progressive_jpeg_and_one_with_comments() -> None:
    progressive = encoded(33, 21, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    comment = b"\xff\xfe\x00\x0b\xff\xc0 is no frame"[:13]
    for data in (progressive, progressive[:2] + comment + progressive[2:], progressive[:2] + b"\xff" + progressive[2:]):
        assert picture_size(data) == (33, 21)


def claiming(width: int, height: int, suffix: str) -> bytes:
    data = encoded(8, 8, suffix)
    if suffix == ".png":
        header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
        return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[start + 4 :]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_few_bytes_that_claim_to_be_gigabytes_are_refused(suffix: str) -> None:
    data = claiming(65_500, 65_500, suffix)
    assert len(data) < 1000
    with pytest.raises(ImageError, match="is a picture of 65500x65500; expected at most 67108864 pixels"):
        decode_compressed(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_without_a_size_is_refused(suffix: str) -> None:
    with pytest.raises(ImageError, match="does not say its width and height"):
        picture_size(claiming(0, 8, suffix))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_start_alone_is_refused(suffix: str) -> None:
    data = encoded(8, 8, suffix)
    for length in range(30):
        with pytest.raises(ImageError):
            decode_compressed(data[:length])


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tiff", ".ppm"])
def test_other_formats_are_not_looked_at(suffix: str) -> None:
    with pytest.raises(ImageError, match="is no JPEG or PNG picture"):
        decode_compressed(encoded(8, 8, suffix))


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_a_chunk_that_claims_gigabytes_is_refused_before_room_is_made_for_it() -> None:
    data = encoded(8, 8, ".png")
    huge = (0x7FFFFFF0).to_bytes(4, "big") + b"tEXt" + bytes(100)
    with pytest.raises(ImageError, match="PNG picture without its end"):
        decode_compressed(data[:33] + huge + data[33:])


def test_an_animation_is_refused() -> None:
    data = encoded(8, 8, ".png")
    with pytest.raises(ImageError, match="is an animation"):
        decode_compressed(data[:33] + chunk(b"acTL", bytes(8)) + data[33:])


def test_a_png_with_text_and_something_behind_its_end() -> None:
    data = encoded(8, 8, ".png")
    assert decode_compressed(data[:33] + chunk(b"tEXt", b"a\0b") + data[33:] + b"more").width == 8


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = encoded(8, 8, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="more than 64 scans"):
        decode_compressed(data[:scan] + data[scan:-2] * 100 + data[-2:])
