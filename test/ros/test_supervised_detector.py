"""What becomes of the detector that runs when something around its replacement fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rclpy.lifecycle import LifecycleNode

from test.ros.graph import Graph
from trt_perception.detector import WarmUp
from trt_perception.errors import PerceptionError
from trt_perception.ros.budget_caption import BudgetCaption
from trt_perception.ros.camera_channel import CameraChannel
from trt_perception.ros.supervised_detector import SupervisedDetector


class StubDetector:
    """Opens, warms up and closes."""

    def __init__(self, name: str) -> None:
        self.closed = False
        self.backend_index = 0
        self.thresholds = SimpleNamespace(score=0.5)
        self.model = SimpleNamespace(name=name, labels=())
        self.recognised = SimpleNamespace(name="head", reason="told")
        self.info = SimpleNamespace(
            backend=name, device="cpu", device_name="", precision="fp32", notes=(), fallback_reason=None
        )

    def warm_up(self, max_batch: int) -> WarmUp:
        return WarmUp((1,))

    def close(self) -> None:
        self.closed = True


def test_real_time_settings_that_can_no_longer_be_had_do_not_lose_a_detector(graph: Graph) -> None:
    first, second = StubDetector("first"), StubDetector("second")
    waiting = [first, second]
    at_work: list[Any] = []

    def settle() -> None:
        raise PerceptionError("cpu_affinity cannot be set: no such core any more")

    live: Any = SimpleNamespace(
        active=True, settle=settle, max_batch=lambda detector: 1, replace_detector=at_work.append, start=lambda *_: None
    )
    opener: Any = SimpleNamespace(open=lambda *_: waiting.pop(0), backends=lambda changed: ["fake"])
    settings: Any = SimpleNamespace(
        value=lambda name: 0.0, fallback_policy=lambda changed: SimpleNamespace(keep_warm=False, allowed=False)
    )
    subject = SupervisedDetector(graph.node, settings, opener, live, lambda reason: None)
    subject.open()
    try:
        subject.switch({"model": "second"})
    finally:
        subject.supervisor.close()
    running: Any = subject.detector
    assert at_work == [second] and running is second
    assert first.closed and not second.closed


def test_subscribers_of_publishers_that_another_thread_destroys_are_none(graph: Graph) -> None:
    node = LifecycleNode("camera_of_a_test", context=graph.node.context)
    channel = CameraChannel(node, "", "raw", BudgetCaption(node))
    channel.create_publishers()
    assert set(channel.subscribers()) == {"/detections", "/inference_latency"}
    destroyed = list(channel._publishers)
    channel.destroy_publishers()
    assert channel.subscribers() == {}
    channel._publishers = destroyed
    assert channel.subscribers() == {}
    channel._publishers = []
    node.destroy_node()
