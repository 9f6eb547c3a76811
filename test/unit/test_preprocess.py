"""Preprocessing against plain implementations of the same published rules, and the way back of boxes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from test.plain_way import plain_input
from trt_perception.errors import ImageError
from trt_perception.model_file import RESIZE_MODES, InputSpec
from trt_perception.preprocess import Preprocessor
from trt_perception.types import CHANNELS, ColorOrder, Image, Uint8Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SIZES = [(1, 1), (1, 7), (7, 1), (3, 200), (200, 3), (320, 320), (640, 480), (481, 641), (319, 321), (64, 48)]
ORDERS: tuple[ColorOrder, ...] = ("bgr", "rgb", "bgra", "rgba", "gray")


def picture(width: int, height: int, channels: int = 3, seed: int = 0) -> Uint8Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def ultralytics_letterbox(pixels: Uint8Array, width: int, height: int, pad: int) -> Uint8Array:
    """LetterBox(new_shape, auto=False, scaleup=True, center=True) as their documentation gives it."""
    rows, columns = pixels.shape[:2]
    ratio = min(height / rows, width / columns)
    unpadded = max(round(columns * ratio), 1), max(round(rows * ratio), 1)
    half_x, half_y = (width - unpadded[0]) / 2, (height - unpadded[1]) / 2
    if (columns, rows) != unpadded:
        pixels = (
            cv2.resize(pixels, unpadded, interpolation=cv2.INTER_LINEAR).astype(np.uint8).reshape(*unpadded[::-1], -1)
        )
    top, bottom = round(half_y - 0.1), round(half_y + 0.1)
    left, right = round(half_x - 0.1), round(half_x + 0.1)
    bordered = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(pad, pad, pad, pad))
    return np.asarray(bordered, np.uint8).reshape(height, width, -1)


def yolox_preproc(pixels: Uint8Array, width: int, height: int) -> Uint8Array:
    """YOLOX's ValTransform: a field of 114 with the picture in its left upper corner, sizes cut to whole pixels."""
    rows, columns = pixels.shape[:2]
    ratio = min(height / rows, width / columns)
    size = int(columns * ratio), int(rows * ratio)
    padded = np.full((height, width, 3), 114, np.uint8)
    padded[: size[1], : size[0]] = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    return padded


def to_rgb(pixels: Uint8Array, order: ColorOrder) -> Uint8Array:
    codes: dict[str, Any] = {
        "bgr": cv2.COLOR_BGR2RGB,
        "bgra": cv2.COLOR_BGRA2RGB,
        "rgba": cv2.COLOR_RGBA2RGB,
        "gray": cv2.COLOR_GRAY2RGB,
    }
    return pixels if order == "rgb" else np.asarray(cv2.cvtColor(pixels, codes[order]), np.uint8)


def nchw(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.transpose(2, 0, 1)[None]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("network", [(320, 320), (320, 192), (96, 160)])
def test_letterbox_is_that_of_ultralytics(width: int, height: int, network: tuple[int, int]) -> None:
    pixels = picture(width, height)
    tensor, _ = Preprocessor(InputSpec(*network))(Image(pixels, "bgr"))
    expected = nchw(ultralytics_letterbox(pixels, *network, 114)[:, :, ::-1].astype(np.float32) / 255)
    assert tensor.shape == (1, 3, network[1], network[0])
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height"), [(320, 320), (640, 480), (481, 641), (319, 321), (64, 48), (1920, 1080), (1279, 719)]
)
@pytest.mark.parametrize("network", [(320, 320), (320, 192), (416, 416)])
def test_letterbox_top_left_is_that_of_yolox(width: int, height: int, network: tuple[int, int]) -> None:
    pixels = picture(width, height)
    spec = InputSpec(*network, color_order="bgr", resize="letterbox_top_left", scale=1.0)
    tensor, way_back = Preprocessor(spec)(Image(pixels, "bgr"))
    np.testing.assert_array_equal(tensor, nchw(yolox_preproc(pixels, *network).astype(np.float32)))
    # YOLOX divides its boxes by the ratio; those that it leaves over the border are cut here.
    ratio = min(network[0] / width, network[1] / height)
    boxes = np.array([[0, 0, 30, 20], [5.5, 7.25, 90, 60]], np.float32)
    limits = np.array([width, height] * 2)
    np.testing.assert_allclose(way_back.map_boxes(boxes), np.minimum(boxes / ratio, limits), rtol=1e-6)


def test_letterbox_top_left_leaves_a_pixel_of_a_line() -> None:
    """Where YOLOX's size would be 0, and OpenCV refuses."""
    spec = InputSpec(32, 32, resize="letterbox_top_left", scale=1.0)
    tensor, _ = Preprocessor(spec)(Image(picture(200, 3), "rgb"))
    assert (tensor[0, :, 1:] == 114).all()
    assert not (tensor[0, :, 0] == 114).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("wanted", ["rgb", "bgr"])
def test_every_colour_order_feeds_the_channels_that_the_network_wants(order: ColorOrder, wanted: Any) -> None:
    pixels = picture(50, 30, CHANNELS[order])
    tensor, _ = Preprocessor(InputSpec(64, 64, wanted))(Image(pixels, order))
    expected = ultralytics_letterbox(to_rgb(pixels, order), 64, 64, 114).astype(np.float32) / 255
    np.testing.assert_allclose(tensor, nchw(expected if wanted == "rgb" else expected[:, :, ::-1]), atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_a_gray_network_gets_luminance(order: ColorOrder) -> None:
    pixels = picture(64, 64, CHANNELS[order])
    spec = InputSpec(64, 64, "gray", mean=(0.5,), std=(0.25,))
    tensor, _ = Preprocessor(spec)(Image(pixels, order))
    rgb = to_rgb(pixels, order).astype(np.float64)
    # Luma of ITU-R BT.601, which OpenCV rounds to whole numbers.
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert tensor.shape == (1, 1, 64, 64)
    np.testing.assert_allclose((tensor[0, 0] * 0.25 + 0.5) * 255, luma, atol=1.0)


@pytest.mark.parametrize("order", ORDERS)
def test_padded_rows_are_read_past(order: ColorOrder) -> None:
    channels = CHANNELS[order]
    padded = picture(80, 40, channels)
    view = np.lib.stride_tricks.as_strided(padded, (40, 71, channels), (80 * channels, channels, 1), writeable=False)
    before = padded.copy()
    for spec in (InputSpec(64, 64), InputSpec(71, 40), InputSpec(64, 32, "gray", mean=(0,), std=(1,))):
        strided = Preprocessor(spec)(Image(view, order))[0]
        compact = Preprocessor(spec)(Image(np.ascontiguousarray(view), order))[0]
        np.testing.assert_array_equal(strided, compact)
    np.testing.assert_array_equal(padded, before)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_stretch_fills_the_whole_input(width: int, height: int) -> None:
    pixels = picture(width, height)
    tensor, way_back = Preprocessor(InputSpec(96, 64, resize="stretch"))(Image(pixels, "rgb"))
    stretched = cv2.resize(pixels, (96, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(tensor, nchw(stretched.astype(np.float32) / 255), atol=1e-6)
    whole = way_back.map_boxes(np.array([[0, 0, 96, 64]], np.float32))
    np.testing.assert_allclose(whole, [[0, 0, width, height]], rtol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (300, 300), (1920, 1081), (257, 999), (40, 31)])
def test_crop_is_the_evaluation_of_imagenet_models(width: int, height: int) -> None:
    """torchvision's Resize(256), CenterCrop(224), ToTensor, Normalize, with OpenCV's linear interpolation."""
    pixels = picture(width, height)
    spec = InputSpec(224, 224, resize="crop", mean=IMAGENET_MEAN, std=IMAGENET_STD, short_side=256)
    tensor, way_back = Preprocessor(spec)(Image(pixels, "bgr"))
    size = (256, int(256 * height / width)) if width <= height else (int(256 * width / height), 256)
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    top, left = round((size[1] - 224) / 2), round((size[0] - 224) / 2)
    crop = resized[top : top + 224, left : left + 224, ::-1].astype(np.float64) / 255
    expected = (crop - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(tensor, nchw(expected), atol=1e-5)
    middle = way_back.map_boxes(np.array([[112, 112, 112, 112]], np.float32))
    np.testing.assert_allclose(middle[0, :2], [width / 2, height / 2], atol=1.5 * max(width, height) / 256)


def test_scale_mean_and_std_apply_in_that_order() -> None:
    pixels = np.array([[[10, 20, 30]]], np.uint8)
    spec = InputSpec(1, 1, scale=2.0, mean=(1.0, 2.0, 3.0), std=(1.0, 10.0, 100.0))
    tensor, _ = Preprocessor(spec)(Image(pixels, "rgb"))
    np.testing.assert_allclose(tensor.ravel(), [(20 - 1) / 1, (40 - 2) / 10, (60 - 3) / 100], rtol=1e-6)


def test_the_border_is_normalised_too() -> None:
    spec = InputSpec(8, 8, pad_value=100, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    tensor, _ = Preprocessor(spec)(Image(np.zeros((4, 8, 3), np.uint8), "rgb"))
    expected = (100 / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(tensor[0, :, 0, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(tensor[0, :, 7, 7], expected, rtol=1e-5)


def test_the_buffer_used_again_holds_nothing_of_the_picture_before() -> None:
    shared = Preprocessor(InputSpec(64, 64))
    for index, (width, height) in enumerate(
        [(640, 480), (480, 640), (10, 10), (640, 480), (64, 1), (64, 64), (640, 480), (320, 240)]
    ):
        order = ORDERS[index % len(ORDERS)]
        image = Image(picture(width, height, CHANNELS[order], seed=index), order)
        fresh, _ = Preprocessor(InputSpec(64, 64))(image)
        np.testing.assert_array_equal(shared(image)[0], fresh)


def test_a_large_picture() -> None:
    pixels = picture(3840, 2160)
    tensor, way_back = Preprocessor(InputSpec(640, 640))(Image(pixels, "bgr"))
    np.testing.assert_allclose(tensor, nchw(ultralytics_letterbox(pixels, 640, 640, 114)[:, :, ::-1] / 255), atol=1e-6)
    corner = way_back.map_boxes(np.array([[640, 500, 640, 500]], np.float32))
    np.testing.assert_allclose(corner, [[3840, 2160, 3840, 2160]])


multiples = st.sampled_from([1, 2, 3, 5, 7])
networks: Any = st.builds(
    InputSpec,
    st.integers(8, 200),
    st.integers(8, 200),
    color_order=st.sampled_from(["rgb", "bgr"]),
    resize=st.sampled_from(["letterbox", "letterbox_top_left", "stretch"]),
    scale=st.sampled_from([1 / 255, 1.0]),
    mean=st.sampled_from([(0.0, 0.0, 0.0), IMAGENET_MEAN, (0.0, 0.5, 0.0)]),
    std=st.sampled_from([(1.0, 1.0, 1.0), IMAGENET_STD]),
) | st.builds(InputSpec, st.integers(8, 200), st.integers(8, 200), color_order=st.just("gray"))


@given(
    spec=networks,
    order=st.sampled_from(ORDERS),
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)) | st.tuples(multiples, multiples),
    brightest=st.sampled_from([0, 1, 200, 255]),
    padding=st.integers(0, 5),
)
@settings(max_examples=400, deadline=None)
def test_every_bit_is_that_of_the_plain_way(
    spec: InputSpec, order: ColorOrder, size: tuple[int, int], brightest: int, padding: int
) -> None:
    """Sizes of a few pixels stand for so many times the network's own: pixels that are taken as they are."""
    width, height = (n * m if max(size) <= 7 else n for n, m in zip(size, (spec.width, spec.height), strict=True))
    whole = np.random.default_rng(width).integers(
        0, brightest, (height, width + padding, CHANNELS[order]), np.uint8, True
    )
    image = Image(whole[:, :width], order)
    tensor, _ = Preprocessor(spec)(image)
    np.testing.assert_array_equal(tensor, plain_input(spec, image))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1280, 720), (1920, 1080), (1080, 1920), (3200, 2400)])
@pytest.mark.parametrize("order", ORDERS)
def test_every_bit_of_a_camera_picture(width: int, height: int, order: ColorOrder) -> None:
    for spec in (InputSpec(640, 640), InputSpec(640, 640, mean=IMAGENET_MEAN, std=IMAGENET_STD)):
        image = Image(picture(width, height, CHANNELS[order]), order)
        np.testing.assert_array_equal(Preprocessor(spec)(image)[0], plain_input(spec, image))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("times", [(3, 3), (5, 3), (1, 9), (7, 7), (11, 1)])
def test_linear_interpolation_takes_the_middle_of_an_odd_number(times: tuple[int, int], channels: int) -> None:
    """What the shorter way rests on, in this OpenCV."""
    for width, height in ((1, 1), (64, 48), (333, 217)):
        pixels = picture(width * times[0], height * times[1], channels)
        linear, nearest = (
            cv2.resize(pixels, (width, height), interpolation=how)
            for how in (cv2.INTER_LINEAR, cv2.INTER_NEAREST_EXACT)
        )
        np.testing.assert_array_equal(linear, nearest)
        middle = pixels[times[1] // 2 :: times[1], times[0] // 2 :: times[0]]
        np.testing.assert_array_equal(linear.reshape(middle.shape), middle)


def test_pictures_that_are_large_before_they_are_cropped_do_not_add_up() -> None:
    preprocess = Preprocessor(InputSpec(32, 32, resize="crop", short_side=2048))
    tracemalloc.start()
    try:
        for width in range(200, 206):
            preprocess(Image(picture(width, 100), "bgr"))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    one = 2048 * 4096 * 3
    assert held < 1.5 * one


def test_a_tensor_that_is_not_contiguous_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the tensor \(1, 3, 8, 8\) is not contiguous"):
        Preprocessor(InputSpec(8, 8), np.zeros((1, 8, 8, 3), np.float32).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3)])
def test_an_empty_picture_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ImageError, match=f"the image is {shape[1]}x{shape[0]}; it needs at least one pixel each way"):
        Preprocessor(InputSpec(8, 8))(Image(np.zeros(shape, np.uint8), "bgr"))


sides = st.integers(1, 2000)


@given(width=sides, height=sides, network=st.tuples(st.integers(8, 640), st.integers(8, 640)), data=st.data())
@settings(max_examples=200, deadline=None)
def test_letterboxed_boxes_come_back(width: int, height: int, network: tuple[int, int], data: st.DataObject) -> None:
    """Boxes go there by the letterbox's own formula, and come back to where they were."""
    _, way_back = Preprocessor(InputSpec(*network))(Image(np.zeros((height, width, 3), np.uint8), "bgr"))
    ratio = min(network[0] / width, network[1] / height)
    left = round((network[0] - max(round(width * ratio), 1)) / 2 - 0.1)
    top = round((network[1] - max(round(height * ratio), 1)) / 2 - 0.1)
    x = sorted(data.draw(st.tuples(st.floats(0, width, width=32), st.floats(0, width, width=32))))
    y = sorted(data.draw(st.tuples(st.floats(0, height, width=32), st.floats(0, height, width=32))))
    box = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    there = (box * ratio + np.array([left, top, left, top])).astype(np.float32)
    back = way_back.map_boxes(there)
    assert back.dtype == np.float32
    # A float32 in the network's pixels is exact to 1e-4; one network pixel is 1 / ratio pixels of the picture.
    np.testing.assert_allclose(back, box, atol=1e-4 / ratio + 1e-3)


@given(
    width=sides,
    height=sides,
    resize=st.sampled_from(RESIZE_MODES),
    box=st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4),
)
@settings(max_examples=150, deadline=None)
def test_boxes_never_leave_the_picture(width: int, height: int, resize: Any, box: tuple[float, ...]) -> None:
    spec = InputSpec(64, 48, resize=resize, short_side=80 if resize == "crop" else 0)
    # Very long pictures would take gigabytes when their short side becomes 80 pixels.
    width, height = max(width, height // 8), max(height, width // 8)
    _, way_back = Preprocessor(spec)(Image(np.zeros((height, width, 3), np.uint8), "bgr"))
    mapped = way_back.map_boxes(np.array([box], np.float32))
    assert (mapped >= 0).all()
    assert (mapped <= [width, height, width, height]).all()


def test_no_boxes_come_back_as_no_boxes() -> None:
    _, way_back = Preprocessor(InputSpec(8, 8))(Image(np.zeros((4, 4, 3), np.uint8), "bgr"))
    assert way_back.map_boxes(np.zeros((0, 4), np.float32)).shape == (0, 4)
