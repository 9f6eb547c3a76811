"""A backend that fails or hangs in a running detector: what takes its place, and what is said of it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from std_srvs.srv import Trigger

from test.ros.graph import Graph, grey, values_of
from test.ros.test_detector_node import Running, entry, start
from trt_perception.inference_watchdog import EXIT_CODE_HUNG

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"
CHAIN = ("-p", "backends:=['fake','onnxruntime:cpu']", "-p", "allow_fallback:=true", "-p", "max_consecutive_errors:=2")


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    """While this file exists, the fake backend is broken."""
    return tmp_path / "broken"


def send_until(running: Running, wanted: Any, period_s: float = 0.05) -> Any:
    """Films until a status of inference is wanted; returns it."""
    running.diagnostics.clear()
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        running.camera.send(grey(64, 48))
        time.sleep(period_s)
        for message in list(running.diagnostics.messages):
            for status in message.status:
                if status.name.endswith("inference") and wanted(status):
                    return status
    raise AssertionError(f"no such status; the log: {running.node.log()}")


def runs(name: str) -> Any:
    return lambda status: any(v.key == "backend" and v.value == name for v in status.values)


def last_index(running: Running) -> float:
    running.latency.clear()
    running.camera.send(grey(64, 48))
    return values_of(running.latency.wait_for())["backend_index"]


@pytest.mark.parametrize("warm", ["true", "false"])
def test_a_backend_that_fails_while_running_is_replaced_announced_and_tried_again(
    graph: Graph, fault: Path, warm: str
) -> None:
    running = start(
        graph,
        *(*CHAIN, "-p", f"fake.broken_while:={fault}", "-p", f"warm_fallback:={warm}", "-p", "backend_retry_s:=1.0"),
    )
    assert last_index(running) == 0
    assert running.status("inference").level == OK

    fault.touch()
    status = send_until(running, runs("onnxruntime"))
    assert status.level == WARN
    assert "fallback: runs onnxruntime:cpu instead of fake: " in status.message
    assert f"broken while there is {fault}" in status.message
    assert entry(status, "backend_index") == "1"
    assert last_index(running) == 1
    assert "runs onnxruntime:cpu instead of fake" in running.node.log()

    running.diagnostics.clear()
    fault.unlink()
    status = send_until(running, runs("fake"))
    assert status.level == OK
    assert "runs fake instead of onnxruntime:cpu: it works again" in entry(status, "last_backend_change")
    assert last_index(running) == 0
    assert graph.state("detector") == "active"


def test_the_wanted_backend_is_tried_again_on_request(graph: Graph, fault: Path) -> None:
    fault.touch()
    running = start(graph, *CHAIN, "-p", f"fake.broken_while:={fault}", "-p", "backend_retry_s:=0.0")
    answer = graph.call(Trigger, "detector/retry_backends", Trigger.Request())
    assert not answer.success
    assert "onnxruntime on cpu runs; runs onnxruntime:cpu instead of fake" in answer.message
    fault.unlink()
    answer = graph.call(Trigger, "detector/retry_backends", Trigger.Request())
    assert (answer.success, answer.message) == (True, "fake on cpu runs")
    assert last_index(running) == 0


def test_without_fallback_the_node_becomes_inactive_with_an_error(graph: Graph, fault: Path) -> None:
    running = start(
        graph,
        *("-p", "backends:=[fake]", "-p", f"fake.broken_while:={fault}", "-p", "max_consecutive_errors:=3"),
    )
    assert running.send().detections
    fault.touch()
    status = send_until(running, lambda s: s.level == ERROR and entry(s, "lifecycle_state") == "inactive")
    assert "inactive, since fake: 3 frames in a row failed: fake: broken while there is" in status.message
    assert "set allow_fallback" in status.message
    assert graph.state("detector") == "inactive"
    fault.unlink()
    assert graph.change_state("detector", Transition.TRANSITION_ACTIVATE)
    running.camera.wait_for_subscriber()
    assert running.send().detections
    assert running.status("inference", lambda s: s.level == OK)


def test_a_backend_that_opens_and_then_cannot_run_is_passed_over_at_activation(graph: Graph) -> None:
    running = start(graph, *CHAIN, "-p", "fake.output:=not_a_number")
    status = running.status("inference")
    assert status.level == WARN
    assert "runs onnxruntime:cpu instead of fake" in status.message
    assert "NaN or infinite" in status.message


@pytest.mark.parametrize("locked", ["true", "false"], ids=["holds the interpreter lock", "holds no lock"])
def test_a_hung_inference_ends_the_process_with_a_code_of_its_own(graph: Graph, locked: str) -> None:
    running = start(
        graph,
        *("-p", "backends:=[fake]", "-p", "fake.hang_from:=5", "-p", f"fake.hang_locked:={locked}"),
        *("-p", "inference_timeout_s:=1.0"),
    )
    assert running.send().detections  # the fourth, after three of warm-up
    running.camera.send(grey())
    assert running.node.process.wait(20) == EXIT_CODE_HUNG
    assert "an inference has not returned for 1 s (inference_timeout_s)" in running.node.log()
    assert "fake_backend_plugin.py" in running.node.log()  # where it hangs


def test_slow_loading_is_no_hung_inference(graph: Graph) -> None:
    running = start(
        graph,
        *("-p", "backends:=[fake]", "-p", "fake.open_s:=1.0", "-p", "inference_timeout_s:=0.3"),
    )
    assert graph.set_parameters("detector", backends=["fake"])[0].successful
    assert running.send().detections


def test_a_time_limit_below_what_the_network_takes_is_raised_and_said(graph: Graph) -> None:
    running = start(graph, *("-p", "backends:=[fake]", "-p", "fake.busy_ms:=300.0", "-p", "inference_timeout_s:=0.2"))
    assert running.send().detections
    # 0.3 s, and more on a busy machine.
    assert re.search(r"inference_timeout_s is 0\.2, but a frame of warm-up took [\d.]+ s", running.node.log())
    assert float(entry(running.status("inference"), "inference_timeout_s")) > 1.4
