"""Quality of service: what connects, and that it can be overridden topic by topic."""

from __future__ import annotations

from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from pal_statistics_msgs.msg import Statistics
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from test.ros.graph import Graph, Mailbox, grey
from trt_perception.ros import qos

FAKE = ("-p", "backends:=[fake]")
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def film_until(graph: Graph, camera: Any, mailboxes: list[Mailbox]) -> None:
    """A picture every 50 ms, until each mailbox has something."""

    def all_have_some() -> bool:
        camera.send(grey(64, 48))
        return all(mailbox.messages for mailbox in mailboxes)

    graph.wait_until(all_have_some, f"a message on each of {[m.topic for m in mailboxes]}", pause_s=0.05)


def test_every_result_reaches_reliable_and_best_effort_readers(graph: Graph) -> None:
    graph.start("detector_node", *FAKE)
    topics = {"detections": Detection2DArray, "inference_latency": Statistics, "annotated_image": Image}
    readers = [
        graph.listen(kind, topic, profile) for topic, kind in topics.items() for profile in (RELIABLE, BEST_EFFORT)
    ]
    film_until(graph, graph.camera(), readers)
    assert graph.listen(LabelInfo, "label_info", LATCHED).wait_for().class_map


@pytest.mark.parametrize("sent", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_an_override_holds_for_its_own_topic_alone(graph: Graph, sent: QoSProfile, transport: str) -> None:
    graph.start(
        "detector_node",
        *FAKE,
        *("-p", "camera_names:=[front, rear]", "-p", f"image_transport:={transport}"),
        *("-p", "qos_overrides./front/detections.publisher.reliability:=best_effort"),
        *("-p", "qos_overrides./front/detections.publisher.depth:=3"),
        *("-p", f"qos_overrides.{topic_of('front', transport)}.subscription.reliability:=reliable"),
    )
    graph.wait_for_state("detector", "active")

    def reliability(topic: str, ends: Any) -> ReliabilityPolicy:
        graph.wait_until(lambda: len(ends(topic)) == 1, f"one end of {topic}")
        policy: ReliabilityPolicy = ends(topic)[0].qos_profile.reliability
        return policy

    published = graph.node.get_publishers_info_by_topic
    subscribed = graph.node.get_subscriptions_info_by_topic
    assert reliability("/front/detections", published) == ReliabilityPolicy.BEST_EFFORT
    for topic in ("/rear/detections", "/front/inference_latency", "/diagnostics", "/front/annotated_image"):
        assert reliability(topic, published) == ReliabilityPolicy.RELIABLE, topic
    assert reliability(topic_of("front", transport), subscribed) == ReliabilityPolicy.RELIABLE
    assert reliability(topic_of("rear", transport), subscribed) == ReliabilityPolicy.BEST_EFFORT


def topic_of(camera: str, transport: str) -> str:
    return f"/{camera}/image" + ("/compressed" if transport == "compressed" else "")


def test_an_override_that_is_no_policy_is_named(graph: Graph) -> None:
    override = "qos_overrides./image.subscription.reliability:=relyable"
    node = graph.start("detector_node", *FAKE, "-p", override, "-p", "diagnostics_period_s:=0.1")

    def problem(message: DiagnosticArray) -> bool:
        words = "Unexpected QoS override for policy `reliability`: `relyable`"
        return any(s.level == DiagnosticStatus.ERROR and words in s.message for s in message.status)

    graph.listen(DiagnosticArray, "/diagnostics").wait_for(problem)
    log = node.log()
    assert "reliability is reliable or best_effort" in log and "Traceback" not in log
    graph.wait_for_state("detector", "inactive")


def test_profiles_are_not_changed_by_those_who_use_them() -> None:
    arguments = qos.overridable(qos.RESULTS)
    arguments["qos_profile"].depth = 99
    assert qos.RESULTS.depth == 10
