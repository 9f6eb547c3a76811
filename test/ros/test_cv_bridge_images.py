"""cv_bridge is asked for what this package does not convert itself, and is not missed where it is absent."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from test.camera_encodings import WRITERS, encode
from trt_perception.annotate import to_bgr
from trt_perception.errors import ImageError
from trt_perception.ros import cv_bridge_images
from trt_perception.ros.messages import image_from_compressed, image_from_message

PICTURE = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def message_of(encoding: str, big_endian: bool = False) -> Image:
    sent = encode(PICTURE, encoding, big_endian=big_endian)
    return Image(
        encoding=encoding,
        width=sent.width,
        height=sent.height,
        step=sent.step,
        data=array.array("B", sent.data),
        is_bigendian=sent.big_endian,
    )


def unknown_message() -> Image:
    return Image(encoding="nv42", width=2, height=2, step=2, data=[0] * 12)


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    cv_bridge_images._converter.cache_clear()
    yield
    cv_bridge_images._converter.cache_clear()


class Bridge:
    """Stands in for cv_bridge.CvBridge: returns or raises what the test says."""

    answer: Any = None
    asked: tuple[str, str] | None = None

    def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> Any:
        Bridge.asked = (message.encoding, desired_encoding)
        if isinstance(Bridge.answer, Exception):
            raise Bridge.answer
        return Bridge.answer


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> type[Bridge]:
    module = ModuleType("cv_bridge")
    module.CvBridge = Bridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    Bridge.asked = None
    return Bridge


def test_it_is_asked_for_what_is_not_converted_here(bridge: type[Bridge]) -> None:
    bridge.answer = PICTURE
    image = image_from_message(unknown_message())
    assert bridge.asked == ("nv42", "bgr8")
    assert image.color_order == "bgr"
    np.testing.assert_array_equal(image.pixels, PICTURE)


def test_it_is_not_asked_for_the_rest(bridge: type[Bridge]) -> None:
    for encoding in WRITERS:
        image_from_message(message_of(encoding))
    assert bridge.asked is None


# Its own error is a TypeError; NumPy 2 and OpenCV 5 make it raise the others.
@pytest.mark.parametrize("error", [TypeError("[nv42] is not a color format"), KeyError(16), AttributeError("gone")])
def test_what_it_cannot_convert_either_is_an_error_with_its_words(bridge: type[Bridge], error: Exception) -> None:
    bridge.answer = error
    with pytest.raises(ImageError) as caught:
        image_from_message(unknown_message())
    assert "encoding 'nv42' is not supported; publish one of bgr8, rgb8" in str(caught.value)
    assert f"cv_bridge says: {type(error).__name__}: {error}" in str(caught.value)


def test_what_is_no_colour_picture_is_refused(bridge: type[Bridge]) -> None:
    bridge.answer = PICTURE[:, :, 0]
    with pytest.raises(ImageError, match=r"cv_bridge gave uint8 of shape \(8, 12\)"):
        image_from_message(unknown_message())


def test_without_it_the_error_says_what_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    for _ in range(2):
        with pytest.raises(ImageError, match=r"'nv42' is not supported; publish one of bgr8, .*nor is there a cv_bri"):
            image_from_message(unknown_message())


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_gbrg16"])
def test_the_byte_order_of_the_message_counts(encoding: str) -> None:
    little, big = (image_from_message(message_of(encoding, big)) for big in (False, True))
    np.testing.assert_array_equal(little.pixels, big.pixels)


def test_the_format_of_a_compressed_message_counts() -> None:
    import cv2

    samples = np.frombuffer(encode(PICTURE, "bayer_rggb8").data, np.uint8).reshape(PICTURE.shape[:2])
    message = CompressedImage(format="bayer_rggb8; png compressed ", data=cv2.imencode(".png", samples)[1].tobytes())
    assert image_from_compressed(message).color_order == "bgr"


def test_where_it_is_installed_its_pixels_are_the_same() -> None:
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed", exc_type=ImportError)
    bridge = cv_bridge.CvBridge()
    compared = []
    for encoding in WRITERS:
        message = message_of(encoding)
        try:
            theirs = bridge.imgmsg_to_cv2(message, desired_encoding="bgr8")
        except cv_bridge_images._ITS_ERRORS:
            continue  # not one of its encodings
        np.testing.assert_array_equal(to_bgr(image_from_message(message)), theirs, err_msg=encoding)
        compared.append(encoding)
    assert {"rgb8", "mono16", "yuv422", "bayer_rggb8"} <= set(compared)
