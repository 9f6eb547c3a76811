"""One held-out scene in every camera encoding, over DDS, through the demo model: the detections are the same."""

from __future__ import annotations

import array
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from test.camera_encodings import GREY, SIXTEEN_BITS, WRITERS, encode, luma
from test.ros.graph import Graph
from trt_perception.scene_composer import Scene
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Uint8Array

LEAST_IOU = 0.95
# Reliable and deep: every picture is to be looked at, whatever else the machine does.
CAMERA = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
RELIABLE = "qos_overrides./{}.subscription.reliability:=reliable"


@functools.cache
def heldout_scene(seed: int, index: int) -> Scene:
    """One of those whose digits the demo model finds, all of them and nothing else, by a wide margin."""
    return next(itertools.islice(heldout_scenes(index + 1, 640, 480, seed), index, None))


def assert_all(found: dict[str, NDArray[np.float64]], scene: Scene) -> None:
    assert sum(len(boxes) for boxes in found.values()) == len(scene.class_ids) > 3


class Detecting:
    """A detector with the demo model, and a camera of any message type in front of it."""

    def __init__(self, graph: Graph, kind: Any, topic: str, *arguments: str) -> None:
        graph.start("detector_node", "-p", RELIABLE.format(f"/{topic}"), "-p", "diagnostics_period_s:=0.1", *arguments)
        self._publisher = graph.node.create_publisher(kind, topic, CAMERA)
        self._detections = graph.listen(Detection2DArray, "detections")
        self._serial = itertools.count(1)
        graph.wait_until(lambda: self._publisher.get_subscription_count() > 0, "the detector subscribes")
        heard = f"subscribers of {self._detections.topic}"
        diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        diagnostics.wait_for(lambda m: (heard, "1") in {(v.key, v.value) for s in m.status for v in s.values})

    def boxes(self, message: Any) -> dict[str, NDArray[np.float64]]:
        """Boxes (N, 4), left, top, right, bottom, by class, of the detections in that picture."""
        message.header = Header(stamp=Time(sec=next(self._serial)), frame_id="eye")
        self._publisher.publish(message)
        answer = self._detections.wait_for(lambda m: m.header.stamp == message.header.stamp)
        found: dict[str, list[list[float]]] = {}
        for detection in answer.detections:
            center, box = detection.bbox.center.position, detection.bbox
            half = box.size_x / 2, box.size_y / 2
            corners = [center.x - half[0], center.y - half[1], center.x + half[0], center.y + half[1]]
            found.setdefault(detection.results[0].hypothesis.class_id, []).append(corners)
        return {name: np.array(boxes) for name, boxes in found.items()}


@pytest.fixture(scope="module")
def raw() -> Iterator[Detecting]:
    with Graph() as graph:
        yield Detecting(graph, Image, "image")


@pytest.fixture(scope="module")
def compressed() -> Iterator[Detecting]:
    with Graph() as graph:
        yield Detecting(graph, CompressedImage, "image/compressed", "-p", "image_transport:=compressed")


def image_message(bgr: Uint8Array, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    sent = encode(bgr, encoding, padding, big_endian)
    return Image(
        encoding=encoding,
        width=sent.width,
        height=sent.height,
        step=sent.step,
        is_bigendian=big_endian,
        data=array.array("B", sent.data),
    )


def assert_same(found: dict[str, NDArray[np.float64]], wanted: dict[str, NDArray[np.float64]]) -> None:
    """The same classes, as many of each, and every box over its counterpart."""
    assert {name: len(boxes) for name, boxes in found.items()} == {name: len(boxes) for name, boxes in wanted.items()}
    for name, boxes in wanted.items():
        overlaps = iou(boxes, found[name])
        assert overlaps.max(axis=1).min() >= LEAST_IOU, (name, overlaps)
        # No two of them over one and the same.
        assert len(set(overlaps.argmax(axis=1).tolist())) == len(boxes)


def iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union, (N, M)."""
    left_top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None] - common))


# Bytes behind each row, and whether 16-bit samples have their more significant byte first.
VARIANTS = [(0, False), (20, False), (0, True), (20, True)]


@pytest.mark.parametrize("encoding", WRITERS)
def test_the_same_scene_gives_the_same_detections(raw: Detecting, encoding: str) -> None:
    """A scene with digits that can be told by their brightness alone, so that grey shows them as well."""
    scene = heldout_scene(9, 13)
    wanted = raw.boxes(image_message(scene.image_bgr, "bgr8"))
    assert_all(wanted, scene)
    for padding, big_endian in VARIANTS:
        if big_endian and encoding not in SIXTEEN_BITS:
            continue
        assert_same(raw.boxes(image_message(scene.image_bgr, encoding, padding, big_endian)), wanted)


@pytest.mark.parametrize("encoding", [name for name in WRITERS if name not in GREY])
def test_a_scene_full_of_colours(raw: Detecting, encoding: str) -> None:
    scene = heldout_scene(7, 0)
    wanted = raw.boxes(image_message(scene.image_bgr, "bgr8"))
    assert_all(wanted, scene)
    assert_same(raw.boxes(image_message(scene.image_bgr, encoding)), wanted)


@pytest.mark.parametrize("encoding", GREY)
def test_grey_is_the_same_as_a_colour_image_without_colours(raw: Detecting, encoding: str) -> None:
    scene = heldout_scene(7, 0)
    without_colours = np.repeat(luma(scene.image_bgr)[:, :, None], 3, axis=2)
    wanted = raw.boxes(image_message(without_colours, "bgr8"))
    assert_all(wanted, scene)
    assert_same(raw.boxes(image_message(scene.image_bgr, encoding)), wanted)


@pytest.mark.parametrize(
    ("format", "suffix", "encoding"),
    [
        ("jpeg", ".jpg", "bgr8"),
        ("png", ".png", "bgr8"),
        ("png", ".png", "bgra8"),
        ("rgb16; png compressed bgr16", ".png", "bgr16"),
        ("mono8; jpeg compressed mono8", ".jpg", "mono8"),
        ("mono16; png compressed ", ".png", "mono16"),
        ("bayer_gbrg8; png compressed ", ".png", "bayer_gbrg8"),
        ("bayer_rggb16; png compressed ", ".png", "bayer_rggb16"),
    ],
)
def test_compressed_pictures_give_the_same_detections(
    compressed: Detecting, format: str, suffix: str, encoding: str
) -> None:
    scene = heldout_scene(9, 13)
    wanted = compressed.boxes(_compressed(encode(scene.image_bgr, "bgr8"), "png", ".png"))
    assert_all(wanted, scene)
    assert_same(compressed.boxes(_compressed(encode(scene.image_bgr, encoding), format, suffix)), wanted)


def _compressed(sent: Any, format: str, suffix: str) -> CompressedImage:
    dtype = "<u2" if sent.encoding in SIXTEEN_BITS else np.uint8
    pixels = np.frombuffer(sent.data, dtype).reshape(sent.height, sent.width, -1)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else []
    data = cv2.imencode(suffix, pixels.astype(pixels.dtype.newbyteorder("=")), quality)[1].tobytes()
    return CompressedImage(format=format, data=data)
