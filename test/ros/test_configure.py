"""What happens to the detector node while it configures, and when that fails half-way."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition

from test.ros.graph import Graph
from test.ros.test_detector_node import FAKE, entry
from trt_perception.ros.threshold_parameters import ThresholdParameters
from trt_perception.types import Thresholds


def test_a_backend_that_is_set_while_a_model_is_loaded_runs_in_the_end(graph: Graph) -> None:
    graph.start("detector_node", *FAKE, "-p", "fake.open_s:=5.0", "-p", "diagnostics_period_s:=0.1")
    (result,) = graph.set_parameters("detector", backends=["onnxruntime:cpu"])
    assert result.successful, result.reason
    graph.wait_for_state("detector", "active")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    status = next(s for s in diagnostics.wait_for().status if s.name.endswith("inference"))
    assert entry(status, "backend") == "onnxruntime"


def test_a_configuration_that_fails_half_way_leaves_nothing_open(graph: Graph) -> None:
    override = "qos_overrides./inference_latency.publisher.reliability:=relyable"
    graph.start("detector_node", *FAKE, "-p", override, "-p", "diagnostics_period_s:=0.1")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")

    def failed(message: Any) -> bool:
        status = next(s for s in message.status if s.name.endswith("inference"))
        return "relyable" in status.message and entry(status, "lifecycle_state") == "unconfigured"

    for _ in range(2):
        status = next(s for s in diagnostics.wait_for(failed).status if s.name.endswith("inference"))
        assert [v.key for v in status.values] == ["lifecycle_state"]
        assert graph.node.count_publishers("detections") == 0
        assert not graph.change_state("detector", Transition.TRANSITION_CONFIGURE)
        diagnostics.clear()


def test_thresholds_that_are_set_while_others_are_shown_are_the_users() -> None:
    asked: list[bool] = []

    class Node:
        def set_parameters(self, _: Any) -> None:
            asked.append(subject.taken_over({"iou_threshold"}))
            from_another_thread(lambda: asked.append(subject.taken_over({"score_threshold"})))

    node: Any = Node()
    settings: Any = SimpleNamespace(was_given=lambda name: False, value=lambda name, changed: 0.125)
    subject = ThresholdParameters(node, settings)
    subject.show(Thresholds(score=0.5, iou=0.25))
    assert asked == [False, True]
    in_force = subject.in_force(Thresholds(score=0.5, iou=0.25))
    assert (in_force.score, in_force.iou) == (0.125, 0.25)


def from_another_thread(call: Any) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
