"""The bytes of an image message become the picture that was meant, or an error that names the field."""

from __future__ import annotations

import array
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from test.camera_encodings import GREY, SIXTEEN_BITS, WRITERS, encode, luma
from trt_perception.annotate import to_bgr
from trt_perception.encodings import ENCODINGS, decode_image
from trt_perception.errors import ImageError
from trt_perception.types import CHANNELS, Uint8Array

# What the encodings hold whose bytes are pixels already, from the definition of sensor_msgs/image_encodings and of
# OpenCV's type names.
MEANING = {
    "bgr8": "bgr",
    "rgb8": "rgb",
    "bgra8": "bgra",
    "rgba8": "rgba",
    "mono8": "gray",
    "8UC1": "gray",
    "8UC3": "bgr",
    "8UC4": "bgra",
}

# OpenCV's conversion to BGR at the encoding's own depth, as its documentation and cv_bridge's results name it.
OPENCV: dict[str, Callable[[Any, int, int], Any]] = {
    **{name: lambda a, h, w: cv2.cvtColor(a.reshape(h, w, 2), cv2.COLOR_YUV2BGR_UYVY) for name in ("yuv422", "uyvy")},
    **{
        name: lambda a, h, w: cv2.cvtColor(a.reshape(h, w, 2), cv2.COLOR_YUV2BGR_YUYV)
        for name in ("yuv422_yuy2", "yuyv")
    },
    "nv12": lambda a, h, w: cv2.cvtColor(a.reshape(h * 3 // 2, w), cv2.COLOR_YUV2BGR_NV12),
    "nv21": lambda a, h, w: cv2.cvtColor(a.reshape(h * 3 // 2, w), cv2.COLOR_YUV2BGR_NV21),
    "rgb16": lambda a, h, w: cv2.cvtColor(a.reshape(h, w, 3), cv2.COLOR_RGB2BGR),
    "bgr16": lambda a, h, w: a.reshape(h, w, 3),
    "16UC3": lambda a, h, w: a.reshape(h, w, 3),
    "rgba16": lambda a, h, w: cv2.cvtColor(a.reshape(h, w, 4), cv2.COLOR_RGBA2BGR),
    "bgra16": lambda a, h, w: cv2.cvtColor(a.reshape(h, w, 4), cv2.COLOR_BGRA2BGR),
    "16UC4": lambda a, h, w: cv2.cvtColor(a.reshape(h, w, 4), cv2.COLOR_BGRA2BGR),
    "mono16": lambda a, h, w: cv2.cvtColor(a.reshape(h, w), cv2.COLOR_GRAY2BGR),
    "16UC1": lambda a, h, w: cv2.cvtColor(a.reshape(h, w), cv2.COLOR_GRAY2BGR),
}
for _bits in (8, 16):
    OPENCV[f"bayer_rggb{_bits}"] = lambda a, h, w: cv2.cvtColor(a.reshape(h, w), cv2.COLOR_BayerRGGB2BGR)
    OPENCV[f"bayer_bggr{_bits}"] = lambda a, h, w: cv2.cvtColor(a.reshape(h, w), cv2.COLOR_BayerBGGR2BGR)
    OPENCV[f"bayer_gbrg{_bits}"] = lambda a, h, w: cv2.cvtColor(a.reshape(h, w), cv2.COLOR_BayerGBRG2BGR)
    OPENCV[f"bayer_grbg{_bits}"] = lambda a, h, w: cv2.cvtColor(a.reshape(h, w), cv2.COLOR_BayerGRBG2BGR)

# Samples are of 16 bits, or rows are shared in a way that a fixed count of bytes a pixel does not tell.
BYTES_OF = {
    **{name: 2 for name in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "mono16", "16UC1")},
    **{name: 1.5 for name in ("nv12", "nv21")},
    **{name: 6 for name in ("rgb16", "bgr16", "16UC3")},
    **{name: 8 for name in ("rgba16", "bgra16", "16UC4")},
    **{f"bayer_{pattern}8": 1 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{pattern}16": 2 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{name: CHANNELS[order] for name, order in MEANING.items()},
    "nv24": 3,
}


def scene(width: int = 64, height: int = 48) -> Uint8Array:
    """Smooth colours, so that interpolating and sharing them changes little, and no two channels alike."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [40 + 150 * x, 200 - 120 * y, 60 + 90 * x * y + 60 * y]
    return np.asarray(np.rint(np.stack(channels, axis=2)), np.uint8)


def random_rows(height: int, step: int) -> Uint8Array:
    return np.random.default_rng(0).integers(0, 256, (height, step), np.uint8)


def eight_bits(pixels: Any) -> Any:
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels.astype(np.float64) * 255 / 65535).astype(np.uint8)


def test_what_a_camera_can_send_is_known() -> None:
    assert set(ENCODINGS) == set(WRITERS) == set(BYTES_OF)


def test_the_documentation_lists_every_encoding() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cameras.md").read_text(encoding="utf-8")
    rows = [line for line in text.split("## Quality of service")[0].splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows))) - {"encoding"} == set(ENCODINGS)


@pytest.mark.parametrize("encoding", WRITERS)
@pytest.mark.parametrize("padding", [0, 10])
@pytest.mark.parametrize("big_endian", [False, True])
def test_the_picture_is_the_one_that_was_meant(encoding: str, padding: int, big_endian: bool) -> None:
    meant = scene()
    sent = encode(meant, encoding, padding, big_endian)
    image = decode_image(encoding, sent.width, sent.height, sent.step, array.array("B", sent.data), big_endian)
    assert (image.width, image.height) == (64, 48)
    assert image.pixels.dtype == np.uint8
    wanted = np.repeat(luma(meant)[:, :, None], 3, axis=2) if encoding in GREY else meant
    # At the border a mosaic lacks neighbours; YUV is rounded, and shared between pixels.
    difference = np.abs(to_bgr(image).astype(int) - wanted)[1:-1, 1:-1]
    assert difference.max() <= 4, encoding


@pytest.mark.parametrize("encoding", OPENCV)
@pytest.mark.parametrize("padding", [0, 6])
def test_the_pixels_are_identical_to_opencvs_own_conversion(encoding: str, padding: int) -> None:
    width, height = 34, 22
    rows, row_bytes = (height, int(width * BYTES_OF[encoding]))
    if encoding in ("nv12", "nv21"):
        rows, row_bytes = height * 3 // 2, width
    noise = random_rows(rows, row_bytes + padding)
    unpadded = np.ascontiguousarray(noise[:, :row_bytes])
    samples = unpadded.view(np.uint16) if encoding in SIXTEEN_BITS else unpadded
    wanted = eight_bits(OPENCV[encoding](samples, height, width))
    image = decode_image(encoding, width, height, noise.shape[1], noise.tobytes())
    np.testing.assert_array_equal(to_bgr(image), wanted)


@pytest.mark.parametrize(("width", "height", "step"), [(10, 6, 16), (33, 7, 33), (1, 1, 1), (1281, 3, 1290)])
def test_nv24_has_the_arithmetic_of_nv12(width: int, height: int, step: int) -> None:
    # OpenCV has no conversion of its own. Each pixel doubled both ways, NV24 is NV12.
    luma_rows = random_rows(height, step)
    chroma_rows = random_rows(height, 2 * step)
    chroma = chroma_rows[:, : 2 * width].reshape(height, width, 2)
    doubled = luma_rows[:, :width].repeat(2, axis=0).repeat(2, axis=1)
    as_nv12 = np.concatenate([doubled, chroma.reshape(height, 2 * width)])
    wanted = cv2.cvtColor(as_nv12, cv2.COLOR_YUV2BGR_NV12)[::2, ::2]
    image = decode_image("nv24", width, height, step, luma_rows.tobytes() + chroma_rows.tobytes())
    np.testing.assert_array_equal(image.pixels, wanted)


def test_sixteen_bits_become_eight_to_the_nearest() -> None:
    every_value = np.arange(65536, dtype="<u2")
    image = decode_image("mono16", 256, 256, 512, every_value.tobytes())
    assert image.color_order == "gray"
    np.testing.assert_array_equal(image.pixels.ravel(), np.rint(np.arange(65536) * 255 / 65535))
    swapped = decode_image("mono16", 256, 256, 512, every_value.astype(">u2").tobytes(), big_endian=True)
    np.testing.assert_array_equal(swapped.pixels, image.pixels)


@pytest.mark.parametrize("encoding", SIXTEEN_BITS)
@pytest.mark.parametrize("big_endian", [False, True])
def test_samples_of_two_bytes_at_odd_addresses(encoding: str, big_endian: bool) -> None:
    even = encode(scene(16, 8), encoding, 0, big_endian)
    odd = encode(scene(16, 8), encoding, 3, big_endian)
    shifted = memoryview(b"\0" + odd.data)[1:]
    image = decode_image(encoding, 16, 8, odd.step, shifted, big_endian)
    wanted = decode_image(encoding, 16, 8, even.step, even.data, big_endian)
    np.testing.assert_array_equal(image.pixels, wanted.pixels)


@pytest.mark.parametrize("encoding", MEANING)
@pytest.mark.parametrize("padding", [0, 5])
def test_pixels_are_the_bytes_of_the_message(encoding: str, padding: int) -> None:
    channels = CHANNELS[MEANING[encoding]]
    width, height = 7, 4
    rows = random_rows(height, width * channels + padding)
    data = array.array("B", rows.tobytes())  # as rclpy gives it
    image = decode_image(encoding, width, height, rows.shape[1], data)
    assert image.color_order == MEANING[encoding]
    assert (image.width, image.height) == (width, height)
    np.testing.assert_array_equal(image.pixels, rows[:, : width * channels].reshape(height, width, channels))
    assert image.pixels.dtype == np.uint8


@pytest.mark.parametrize("padding", [0, 5])
def test_nothing_is_copied_and_nothing_can_be_written(padding: int) -> None:
    step = 7 * 3 + padding
    data = np.zeros(4 * step, np.uint8)
    image = decode_image("bgr8", 7, 4, step, data)
    assert np.shares_memory(image.pixels, data)
    data[step] = 99
    assert image.pixels[1, 0, 0] == 99
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0, 0] = 1


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
@pytest.mark.parametrize("encoding", ["mono8", "nv24"])
def test_any_buffer_will_do(container: type, encoding: str) -> None:
    image = decode_image(encoding, 2, 2, 2, container(bytes([1, 2, 3, 4] * 3)))
    assert (image.width, image.height) == (2, 2)


def test_the_last_row_may_lack_its_padding() -> None:
    data = bytes(range(3 * 10 + 6))
    image = decode_image("rgb8", 2, 4, 10, data)
    assert image.pixels[3].ravel().tolist() == [30, 31, 32, 33, 34, 35]
    with pytest.raises(ImageError, match="data has 35 bytes; 4 rows with step 10 take 36"):
        decode_image("rgb8", 2, 4, 10, data[:-1])


@pytest.mark.parametrize(
    ("encoding", "width", "height", "step", "size", "words"),
    [
        ("bayer_rggb8x", 2, 2, 2, 4, "encoding 'bayer_rggb8x' is not supported; publish one of bgr8"),
        ("32FC1", 2, 2, 8, 16, "encoding '32FC1' is not supported"),
        ("", 2, 2, 2, 4, "encoding ''"),
        ("bgr8", 0, 2, 6, 12, "width x height is 0 x 2; both must be at least 1"),
        ("bgr8", 2, 0, 6, 12, "width x height is 2 x 0"),
        ("bayer_rggb8", 2, 9, 2, 18, "width x height is 2 x 9; both must be at least 3 for bayer_rggb8"),
        ("bgr8", 2, 2, 5, 12, "step is 5; a row of 2 bgr8 pixels takes 6 bytes"),
        ("bgr8", 2, 2, 0, 12, "step is 0"),
        ("rgb16", 4, 2, 12, 48, "step is 12; a row of 4 rgb16 pixels takes 24 bytes"),
        ("bgr8", 2, 2, 6, 0, "data has 0 bytes; 2 rows with step 6 take 12"),
        ("yuv422", 5, 2, 10, 20, "width is 5; yuv422 needs an even one"),
        ("yuv422_yuy2", 5, 2, 10, 20, "width is 5; yuv422_yuy2 needs an even one"),
        ("nv12", 5, 2, 6, 18, "width is 5; nv12 needs an even one"),
        ("nv21", 6, 3, 6, 27, "height is 3; nv21 needs an even one"),
        ("nv12", 4, 4, 4, 16, "data has 16 bytes; 6 rows with step 4 take 24 of 4 rows of nv12 pixels"),
        ("nv24", 4, 4, 4, 24, "data has 24 bytes; 12 rows with step 4 take 48 of 4 rows of nv24 pixels"),
        ("mono8", 2**32 - 1, 2**32 - 1, 2**32 - 1, 12, "data has 12 bytes"),
    ],
)
def test_a_message_that_is_no_picture(encoding: str, width: int, height: int, step: int, size: int, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(encoding, width, height, step, bytes(size))
    assert words in str(caught.value)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("width", "height"), [(2**32 - 2, 2**32 - 2), (2**32 - 2, 4), (4, 2**32 - 2)])
def test_a_size_that_the_data_does_not_have_allocates_nothing(encoding: str, width: int, height: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            decode_image(encoding, width, height, 2**32 - 1, bytes(1000))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


fields = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))


@given(
    encoding=st.sampled_from([*ENCODINGS, "8UC2", "32FC1"]),
    width=fields,
    height=fields,
    step=fields,
    data=st.binary(max_size=3000),
    big_endian=st.booleans(),
)
@settings(max_examples=500)
def test_whatever_the_fields_say_nothing_outside_the_data_is_read(
    encoding: str, width: int, height: int, step: int, data: bytes, big_endian: bool
) -> None:
    def decode(behind: bytes) -> Uint8Array | str:
        whole = data + behind
        try:
            image = decode_image(encoding, width, height, step, memoryview(whole)[: len(data)], big_endian)
        except ImageError as error:
            return str(error)
        assert (image.width, image.height) == (width, height)
        return np.array(image.pixels)

    with_zeros, with_ones = decode(bytes(5000)), decode(b"\xff" * 5000)
    assert type(with_zeros) is type(with_ones)
    np.testing.assert_array_equal(with_zeros, with_ones)
    if encoding in MEANING and not isinstance(with_zeros, str):
        row = width * CHANNELS[MEANING[encoding]]
        assert with_zeros.tobytes() == b"".join(data[y * step : y * step + row] for y in range(height))
