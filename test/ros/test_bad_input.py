"""What a camera, a network, a clock or a caller can do wrong: the node lives, counts it and says what it was.

Mutated messages by the hundred are in test/soak.
"""

from __future__ import annotations

import math
import random
import time
from functools import partial
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from pal_statistics_msgs.msg import Statistic, Statistics
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters, SetParametersAtomically
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from test.ros.graph import Graph, grey, values_of
from test.ros.test_detector_node import FAKE, entry, start
from test.soak.bad_images import STAMPS
from trt_perception.ros import qos

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


@pytest.mark.parametrize(
    ("output", "words"),
    [("not_a_number", "NaN or infinite"), ("infinite", "NaN or infinite"), ("shape", "the yolov8 head expects")],
)
def test_outputs_that_turn_bad_are_counted_and_explained(graph: Graph, output: str, words: str) -> None:
    # Three frames of warm-up and one good one; nothing else is to happen than counting.
    arguments = ("-p", f"fake.output:={output}", "-p", "fake.output_from:=5", "-p", "max_consecutive_errors:=0")
    running = start(graph, *FAKE, *arguments)
    assert running.send().detections
    for _ in range(3):
        running.camera.send(grey())
    status = running.status("input image", lambda s: int(entry(s, "failed_count")) > 0)
    assert status.level == ERROR
    assert words in status.message
    assert graph.state("detector") == "active"


def test_stamps_that_jump_and_are_none(graph: Graph) -> None:
    running = start(graph, *FAKE, "-p", "max_image_age_ms:=500.0")
    now_s = graph.node.get_clock().now().to_msg().sec
    fresh = (Time(), Time(sec=now_s + 1000), Time(sec=2**31 - 1, nanosec=2**32 - 1))
    old = (Time(sec=1), Time(sec=now_s - 100), Time(sec=-(2**31)))
    for stamp in fresh:
        running.camera.send(grey(), stamp=stamp)
        assert running.detections.wait_for(partial(_has_stamp, stamp)).detections
    for number, stamp in enumerate(old, 1):
        running.camera.send(grey(), stamp=stamp)
        running.status("input image", partial(_is_stale, number))


def _has_stamp(stamp: Time, message: Any) -> bool:
    return bool(message.header.stamp == stamp)


def _is_stale(count: int, status: Any) -> bool:
    return int(entry(status, "stale_count")) == count


def test_a_simulation_that_stands_still_jumps_back_and_begins_again(graph: Graph) -> None:
    running = start(graph, *FAKE, "-p", "use_sim_time:=true")
    assert "use_sim_time is true, but no /clock has come" in running.status("clock").message
    assert running.send().detections
    clock = graph.node.create_publisher(Clock, "/clock", 10)
    graph.wait_until(lambda: clock.get_subscription_count() > 0, "the subscription to /clock")
    for now in (Time(sec=100), Time(sec=200), Time(sec=50), Time(), Time(sec=2**31 - 1)):
        clock.publish(Clock(clock=now))
        assert running.send().detections
        running.status("input image")
    running.latency.clear()
    # On the simulation's clock, an image of two seconds ago is that old.
    clock.publish(Clock(clock=Time(sec=1000)))

    def age_ms() -> float:
        stamp = Time(sec=998, nanosec=1)
        running.camera.send(grey(), stamp=stamp)
        return values_of(running.latency.wait_for(lambda m: m.header.stamp == stamp)).get("image_age_ms", 0.0)

    graph.wait_until(lambda: 1999.0 < age_ms() < 2001.0, "the simulation's clock", pause_s=0.1)


def test_requests_that_rclpy_itself_cannot_serve_are_answered(graph: Graph) -> None:
    running = start(graph, *FAKE)
    for wrong in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP, 200):
        assert not graph.change_state("detector", wrong)
    for value in (ParameterValue(type=77), ParameterValue(type=255)):
        parameters = [Parameter(name="score_threshold", value=value)]
        answer: Any = graph.call(SetParameters, "detector/set_parameters", SetParameters.Request(parameters=parameters))
        assert list(answer.results) == []
        request = SetParametersAtomically.Request(parameters=parameters)
        assert not graph.call(SetParametersAtomically, "detector/set_parameters_atomically", request).result.successful
    graph.call(DescribeParameters, "detector/describe_parameters", DescribeParameters.Request(names=["no", ""]))
    assert graph.state("detector") == "active"
    assert running.send().detections
    assert "change_state: ChangeState_Request failed, nothing is done" in running.node.log()
    assert "77 is not a valid Parameter.Type" in running.node.log()


def test_image_timeout_is_what_the_parameter_says(graph: Graph) -> None:
    running = start(graph, *FAKE, "-p", "image_timeout_s:=1000.0")
    assert running.send().detections
    assert running.status("input image").level == OK
    assert graph.set_parameters("detector", image_timeout_s=0.2)[0].successful
    status = running.status("input image", lambda s: s.level == ERROR)
    assert "no image arrives" in status.message


def test_the_budget_monitor_survives_figures_that_are_none(graph: Graph) -> None:
    rng = random.Random(3)
    node = graph.start("budget_monitor_node")
    publisher = graph.node.create_publisher(Statistics, "inference_latency", qos.RESULTS)
    graph.wait_until(lambda: publisher.get_subscription_count() > 0, "the subscription")
    names = ("inference_ms", "inference_start_offset_ms", "host_to_device_ms", "device_to_host_ms", "", "é")
    figures = (0.0, 5.0, -5.0, 1e18, 1e308, -1e308, 1e-320, math.nan, math.inf, -math.inf)
    for _ in range(500):
        stamp = rng.choice((*STAMPS, graph.node.get_clock().now().to_msg()))
        entries = [Statistic(name=rng.choice(names), value=rng.choice(figures)) for _ in range(rng.randint(0, 9))]
        publisher.publish(Statistics(header=Header(stamp=stamp), statistics=entries))
        time.sleep(0.002)
    budget = graph.listen(Statistics, "control_budget")
    assert values_of(budget.wait_for())["control_period_ms"] == 20.0
    assert "Traceback" not in node.log()
    assert node.end() == 0
