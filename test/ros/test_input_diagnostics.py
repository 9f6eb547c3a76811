"""What /diagnostics says of an input that does not work: the reason and the remedy, within three seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from pal_statistics_msgs.msg import Statistics
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from test.logged_process import LoggedProcess
from test.ros.graph import Graph, grey
from trt_perception.ros.messages import image_to_message

TIME_LIMIT_S = 3.0
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
FAKE = ("-p", "backends:=[fake]")
ERROR = DiagnosticStatus.ERROR


class Watched:
    """A detector that listens on /cam with the default period of /diagnostics, and what it says of its input."""

    def __init__(self, graph: Graph, *arguments: str) -> None:
        self.graph = graph
        self.node: LoggedProcess = graph.start("detector_node", "-r", "image:=/cam", *FAKE, *arguments)
        self._diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        graph.wait_for_state("detector", "active")
        self.active_s = time.monotonic()

    def says(self, since_s: float, level: bytes, *words: str) -> str:
        """The first message, from then on, with these words; fails when it takes longer than the limit allows."""
        self._diagnostics.clear()

        def pick(message: DiagnosticArray) -> Any:
            statuses = [s for s in message.status if s.name.endswith("input image") and s.level == level]
            return next((s.message for s in statuses if all(w in s.message for w in words)), None)

        left_s = since_s + TIME_LIMIT_S - time.monotonic()
        return str(pick(self._diagnostics.wait_for(lambda m: pick(m) is not None, left_s)))

    @contextmanager
    def publishing(
        self, kind: Any, topic: str, message: Callable[[], Any], profile: QoSProfile = RELIABLE
    ) -> Iterator[float]:
        """A publisher at 10 Hz while the block runs; gives the time at which it began."""
        publisher = self.graph.node.create_publisher(kind, topic, profile)
        ended = threading.Event()

        def publish() -> None:
            while not ended.wait(0.1):
                publisher.publish(message())

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield time.monotonic()
        finally:
            ended.set()
            thread.join()
            self.graph.node.destroy_publisher(publisher)


def good() -> Image:
    return image_to_message(grey(64, 48), "bgr8", Header(stamp=Time(sec=1)))


def of_no_use() -> Image:
    return Image(encoding="32FC1", width=2, height=2, step=8, data=[0] * 16)


def corrupt() -> CompressedImage:
    return CompressedImage(format="jpeg", data=[0xFF, 0xD8, 0xFF, 0xDA, 1, 2, 3])


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """One detector for all tests that leave the graph as they found it."""
    with Graph() as graph:
        watched = Watched(graph)
        # Here, because only the first seconds of the node are those without any image before.
        watched.says(watched.active_s, ERROR, "nobody publishes /cam; start the camera, or remap `image`")
        yield watched


def test_nobody_publishes_and_no_image_is_anywhere(watched: Watched) -> None:
    watched.says(time.monotonic(), ERROR, "nobody publishes /cam", "no image topic is on the graph")


def test_nobody_publishes_but_images_are_elsewhere(watched: Watched) -> None:
    with watched.publishing(Image, "/front/image_raw", good) as began_s:
        watched.says(began_s, ERROR, "nobody publishes /cam", "remap `image` to one of /front/image_raw")


def test_something_else_is_published_where_images_are_looked_for(watched: Watched) -> None:
    with watched.publishing(String, "/cam", String) as began_s:
        advice = "not as sensor_msgs/msg/Image; remap `image` to the camera's topic; no image topic is on the graph"
        watched.says(began_s, ERROR, "/cam is published as std_msgs/msg/String", advice)


def test_only_the_compressed_images_are_published(watched: Watched) -> None:
    with watched.publishing(CompressedImage, "/cam/compressed", corrupt) as began_s:
        watched.says(began_s, ERROR, "nobody publishes /cam", "set image_transport to compressed: /cam/compressed is")


@pytest.mark.parametrize("profile", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_a_publisher_that_sends_nothing(watched: Watched, profile: QoSProfile) -> None:
    publisher = watched.graph.node.create_publisher(Image, "/cam", profile)
    message = watched.says(time.monotonic(), ERROR, "/cam has 1 publisher(s) but no image arrives")
    assert "config/fastdds_shm.xml" in message
    watched.graph.node.destroy_publisher(publisher)


def test_images_arrive_but_none_can_be_used(watched: Watched) -> None:
    with watched.publishing(Image, "/cam", of_no_use) as began_s:
        message = watched.says(began_s, ERROR, "images arrive, but none can be used: encoding '32FC1' is not supported")
        assert "publish one of bgr8, rgb8" in message


def test_some_images_are_bad(watched: Watched) -> None:
    with watched.publishing(Image, "/cam", good), watched.publishing(Image, "/cam", of_no_use) as began_s:
        watched.says(began_s, ERROR, "some images are bad: encoding '32FC1' is not supported")


@pytest.mark.parametrize("profile", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_images_arrive_from_reliable_and_from_best_effort_cameras_and_then_stop(
    watched: Watched, profile: QoSProfile
) -> None:
    with watched.publishing(Image, "/cam", good, profile):
        time.sleep(3.0)  # what the test before left behind is out of the window of rates
        assert "Hz arrive" in watched.says(time.monotonic(), DiagnosticStatus.OK)
    watched.says(time.monotonic(), ERROR, "nobody publishes /cam")


def test_all_images_are_too_old(watched: Watched) -> None:
    watched.graph.set_parameters("detector", max_image_age_ms=500.0)
    with watched.publishing(Image, "/cam", good) as began_s:
        message = watched.says(began_s, ERROR, "images arrive, but all are older than max_image_age_ms allows")
    assert "500 ms are allowed; compare the clocks" in message
    watched.graph.set_parameters("detector", max_image_age_ms=0.0)


def test_a_publisher_of_another_type(graph: Graph) -> None:
    # In a graph of its own: one participant cannot have a topic under two types.
    watched = Watched(graph)
    with watched.publishing(Statistics, "/cam", Statistics) as began_s:
        message = watched.says(began_s, ERROR, "published as pal_statistics_msgs/msg/Statistics")
        assert "not as sensor_msgs/msg/Image; remap `image` to" in message


def test_an_incompatible_quality_of_service(graph: Graph) -> None:
    watched = Watched(graph, "-p", "qos_overrides./cam.subscription.reliability:=reliable")
    with watched.publishing(Image, "/cam", good, BEST_EFFORT) as began_s:
        message = watched.says(began_s, ERROR, "a publisher of /cam offers a reliability that this subscription does")
        assert "set the parameter qos_overrides./cam.subscription.reliability back to best_effort" in message
        assert "or make the publisher reliable" in message
        assert message in watched.node.log()
    with watched.publishing(Image, "/cam", good, RELIABLE) as began_s:
        assert "Hz arrive" in watched.says(began_s, DiagnosticStatus.OK)


def test_compressed_images_that_cannot_be_used_or_are_raw(graph: Graph) -> None:
    watched = Watched(graph, "-p", "image_transport:=compressed")
    watched.says(watched.active_s, ERROR, "nobody publishes /cam/compressed")
    with watched.publishing(Image, "/cam", good) as began_s:
        watched.says(
            began_s, ERROR, "nobody publishes /cam/compressed", "set image_transport to raw: /cam is published"
        )
    with watched.publishing(CompressedImage, "/front/compressed", corrupt) as began_s:
        watched.says(began_s, ERROR, "nobody publishes /cam/compressed", "remap `image` to one of /front")
    with watched.publishing(CompressedImage, "/cam/compressed", corrupt) as began_s:
        watched.says(began_s, ERROR, "images arrive, but none can be used: data (7 bytes) is a JPEG picture without")
