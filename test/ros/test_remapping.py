"""A topic is remapped once, over real DDS: cameras that are swapped, rules that form a chain."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from std_msgs.msg import Empty
from vision_msgs.msg import Detection2DArray

from test.ros.graph import Graph, Mailbox, grey

FAKE = ("-p", "backends:=[fake]", "-p", "diagnostics_period_s:=0.1")


def input_status(diagnostics: Mailbox, camera: str, *words: str) -> dict[str, str]:
    """The values of a camera's status whose message has these words."""

    def pick(message: Any) -> Any:
        found = [s for s in message.status if s.name.endswith(f"input {camera}")]
        return next((s for s in found if all(word in s.message for word in words)), None)

    return {v.key: v.value for v in pick(diagnostics.wait_for(lambda m: pick(m) is not None)).values}


def test_cameras_that_are_swapped_are_swapped(graph: Graph) -> None:
    swap = ("-r", "front/image:=/rear/image", "-r", "rear/image:=/front/image")
    graph.start("detector_node", *FAKE, "-p", "camera_names:=[front, rear]", *swap)
    cameras = {name: graph.camera(f"/{name}/image") for name in ("front", "rear")}
    results = {name: graph.listen(Detection2DArray, f"/{name}/detections") for name in cameras}
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    for camera in cameras.values():
        camera.wait_for_subscriber()
    end_s = time.monotonic() + 30
    while not all(mailbox.messages for mailbox in results.values()):
        assert time.monotonic() < end_s
        for name, camera in cameras.items():
            camera.send(grey(64, 48), stamp=Time(sec=1), frame_id=f"eye of {name}")
        time.sleep(0.1)
    assert {m.header.frame_id for m in results["front"].messages} == {"eye of rear"}
    assert {m.header.frame_id for m in results["rear"].messages} == {"eye of front"}
    assert input_status(diagnostics, "front", "Hz arrive")["topic"] == "/rear/image"


def test_a_chain_of_rules_is_followed_by_one_step(graph: Graph) -> None:
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    chain = ("-r", "front/image:=/image", "-r", "image:=/camera/image_raw")
    node = graph.start("detector_node", *FAKE, "-p", "camera_names:=[front]", "-p", "image_timeout_s:=0.2", *chain)
    # Both what it listens to and what it says of it.
    graph.wait_until(lambda: graph.node.count_subscribers("/image") == 1, "a subscription to /image")
    assert graph.node.count_subscribers("/camera/image_raw") == 0
    assert (
        input_status(diagnostics, "front", "nobody publishes /image; ", "remap `front/image` to")["topic"] == "/image"
    )
    assert "listens on /image" in node.log()
    publisher = graph.node.create_publisher(Image, "/image", 1)
    diagnostics.clear()
    input_status(diagnostics, "front", "/image has 1 publisher(s) but no image arrives")
    graph.node.destroy_publisher(publisher)


def test_a_compressed_topic_that_would_be_remapped_twice_is_refused(graph: Graph) -> None:
    compressed = (*FAKE, "-p", "image_transport:=compressed")
    twice = ("-r", "image:=/cam", "-r", "/cam/compressed:=/other")
    node = graph.start("detector_node", *compressed, *twice)
    assert node.process.wait(30) == 1
    assert "`image` is remapped to /cam, and /cam/compressed to /other; a topic is remapped once" in node.log()


@pytest.mark.parametrize(
    ("rule", "topic"), [("image:=/cam", "/cam/compressed"), ("image/compressed:=/cam/jpeg", "/cam/jpeg")]
)
def test_a_compressed_topic_is_remapped_by_either_name(graph: Graph, rule: str, topic: str) -> None:
    node = graph.start("detector_node", *FAKE, "-p", "image_transport:=compressed", "-r", rule)
    graph.wait_until(lambda: graph.node.count_subscribers(topic) == 1, f"a subscription to {topic}")
    graph.wait_until(lambda: f"listens on {topic}" in node.log(), "the topic in the log")


def test_the_monitor_follows_a_chain_by_one_step(graph: Graph) -> None:
    ticks = graph.node.create_publisher(Empty, "/first_tick", 10)
    chains = ("inference_latency:=/first", "first:=/second", "tick:=/first_tick", "first_tick:=/second_tick")
    rules = [word for rule in chains for word in ("-r", rule)]
    graph.start("budget_monitor_node", "-p", "control_topic:=tick", *rules)
    count = graph.node.count_subscribers
    graph.wait_until(lambda: count("/first") == count("/first_tick") == 1, "subscriptions to both")
    for topic in ("/second", "/second_tick"):
        assert count(topic) == 0
    graph.node.destroy_publisher(ticks)
