"""cv_bridge is asked for what this package does not convert itself, and is not missed where it is absent."""

from __future__ import annotations

import array
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from test.camera_encodings import WRITERS, encode
from trt_perception.annotate import to_bgr
from trt_perception.errors import ImageError
from trt_perception.ros import cv_bridge_images
from trt_perception.ros.messages import image_from_message
from trt_perception.ros.serialized_images import SerializedCompressed

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


STAND_IN = """
class CvBridge:
    answer = None
    asked = None

    def imgmsg_to_cv2(self, message, desired_encoding):
        if message.encoding == "rgb8":
            return None  # the trial
        CvBridge.asked = (message.encoding, desired_encoding)
        if isinstance(CvBridge.answer, Exception):
            raise CvBridge.answer
        return CvBridge.answer
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a module of that source where cv_bridge is looked for, here and in child processes."""

    def write(source: str) -> None:
        (tmp_path / "cv_bridge.py").write_text(source, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)

    yield write
    sys.modules.pop("cv_bridge", None)


@pytest.fixture
def bridge(install: Callable[[str], None]) -> Any:
    """Stands in for cv_bridge.CvBridge: returns or raises what the test says."""
    install(STAND_IN)
    return importlib.import_module("cv_bridge").CvBridge


def test_it_is_asked_for_what_is_not_converted_here(bridge: Any) -> None:
    bridge.answer = PICTURE
    image = image_from_message(unknown_message())
    assert bridge.asked == ("nv42", "bgr8")
    assert image.color_order == "bgr"
    np.testing.assert_array_equal(image.pixels, PICTURE)


def test_it_is_not_asked_for_the_rest(bridge: Any) -> None:
    for encoding in WRITERS:
        image_from_message(message_of(encoding))
    assert bridge.asked is None


# Its own error is a TypeError; NumPy 2 and OpenCV 5 make it raise the others.
@pytest.mark.parametrize("error", [TypeError("[nv42] is not a color format"), KeyError(16), AttributeError("gone")])
def test_what_it_cannot_convert_either_is_an_error_with_its_words(bridge: Any, error: Exception) -> None:
    bridge.answer = error
    with pytest.raises(ImageError) as caught:
        image_from_message(unknown_message())
    assert "encoding 'nv42' is not supported; publish one of bgr8, rgb8" in str(caught.value)
    assert f"cv_bridge says: {type(error).__name__}: {error}" in str(caught.value)


def test_what_is_no_colour_picture_is_refused(bridge: Any) -> None:
    bridge.answer = PICTURE[:, :, 0]
    with pytest.raises(ImageError, match=r"cv_bridge gave uint8 of shape \(8, 12\)"):
        image_from_message(unknown_message())


def test_without_it_the_error_says_what_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for _ in range(2):
        with pytest.raises(
            ImageError, match=r"'nv42' is not supported; publish one of bgr8, .*cv_bridge, .* installed"
        ):
            image_from_message(unknown_message())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with -11"),
        ("raise ImportError('numpy.core.multiarray failed to import')", "multiarray failed to import"),
    ],
)
def test_one_that_was_built_for_another_numpy_kills_nothing(
    install: Callable[[str], None], source: str, words: str
) -> None:
    install(source)
    with pytest.raises(ImageError, match=f"cv_bridge, .* does not work with NumPy {np.__version__}: .*{words}"):
        image_from_message(unknown_message())


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_gbrg16"])
def test_the_byte_order_of_the_message_counts(encoding: str) -> None:
    little, big = (image_from_message(message_of(encoding, big)) for big in (False, True))
    np.testing.assert_array_equal(little.pixels, big.pixels)


def test_the_format_of_a_compressed_message_counts() -> None:
    import cv2

    samples = np.frombuffer(encode(PICTURE, "bayer_rggb8").data, np.uint8).reshape(PICTURE.shape[:2])
    message = CompressedImage(format="bayer_rggb8; png compressed ", data=cv2.imencode(".png", samples)[1].tobytes())
    assert SerializedCompressed(serialize_message(message)).frame().color_order == "bgr"


def test_where_it_is_installed_its_pixels_are_the_same() -> None:
    convert, reason = cv_bridge_images._converter()
    if convert is None:
        pytest.skip(reason)
    compared = []
    for encoding in WRITERS:
        message = message_of(encoding)
        try:
            theirs = convert(message, desired_encoding="bgr8")
        except cv_bridge_images._ITS_ERRORS:
            continue  # not one of its encodings
        np.testing.assert_array_equal(to_bgr(image_from_message(message)), theirs, err_msg=encoding)
        compared.append(encoding)
    assert {"rgb8", "mono16", "yuv422", "bayer_rggb8"} <= set(compared)
