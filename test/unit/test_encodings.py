"""The bytes of an image message become a picture over the same memory, or an error that names the field."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.encodings import ENCODINGS, decode_compressed, decode_image
from trt_perception.errors import ImageError
from trt_perception.types import CHANNELS, Uint8Array

# What each encoding holds, from the definition of sensor_msgs/image_encodings and of OpenCV's type names.
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


def random_rows(height: int, step: int) -> Uint8Array:
    return np.random.default_rng(0).integers(0, 256, (height, step), np.uint8)


def test_every_encoding_has_its_meaning_here() -> None:
    assert set(MEANING) == set(ENCODINGS)


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
def test_any_buffer_will_do(container: type) -> None:
    image = decode_image("mono8", 2, 2, 2, container(bytes([1, 2, 3, 4])))
    assert image.pixels[:, :, 0].tolist() == [[1, 2], [3, 4]]


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
        ("", 2, 2, 2, 4, "encoding ''"),
        ("bgr8", 0, 2, 6, 12, "width x height is 0 x 2; both must be at least 1"),
        ("bgr8", 2, 0, 6, 12, "width x height is 2 x 0"),
        ("bgr8", 2, 2, 5, 12, "step is 5; a row of 2 bgr8 pixels takes 6 bytes"),
        ("bgr8", 2, 2, 0, 12, "step is 0"),
        ("bgr8", 2, 2, 6, 0, "data has 0 bytes; 2 rows with step 6 take 12"),
        ("mono8", 2**32 - 1, 2**32 - 1, 2**32 - 1, 12, "data has 12 bytes"),
    ],
)
def test_a_message_that_is_no_picture(encoding: str, width: int, height: int, step: int, size: int, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(encoding, width, height, step, bytes(size))
    assert words in str(caught.value)


fields = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))


@given(
    encoding=st.sampled_from([*MEANING, "yuv422", "16UC1"]),
    width=fields,
    height=fields,
    step=fields,
    data=st.binary(max_size=3000),
)
@settings(max_examples=300)
def test_whatever_the_fields_say_nothing_outside_the_data_is_read(
    encoding: str, width: int, height: int, step: int, data: bytes
) -> None:
    try:
        image = decode_image(encoding, width, height, step, data)
    except ImageError:
        return
    row = width * CHANNELS[image.color_order]
    expected = b"".join(data[y * step : y * step + row] for y in range(height))
    assert image.pixels.tobytes() == expected


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_pictures(suffix: str) -> None:
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    _, data = cv2.imencode(suffix, pixels)
    image = decode_compressed(array.array("B", data.tobytes()))
    assert (image.color_order, image.width, image.height) == ("bgr", 30, 20)
    np.testing.assert_allclose(image.pixels.astype(int), pixels.astype(int), atol=4)


def test_a_grey_compressed_picture_has_three_channels() -> None:
    _, data = cv2.imencode(".png", np.full((4, 4), 7, np.uint8))
    assert decode_compressed(data.tobytes()).pixels.shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "data is empty"), (b"not a picture", "13 bytes"), (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG")],
)
def test_bytes_that_are_no_picture(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode_compressed(data)
