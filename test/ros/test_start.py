"""The first second of a node's process: what it is asked to be, and signals that come before it is."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from test.ros.graph import Graph
from test.soak.signals import shared_memory, wait_for_handlers
from trt_perception.ros.start import NODES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("node", NODES)
def test_a_signal_while_everything_is_being_imported_ends_it_quietly(
    graph: Graph, node: str, number: signal.Signals
) -> None:
    started = graph.start(node)
    wait_for_handlers(started.process.pid)
    assert started.end(number, 3.0) == 0
    assert started.log() == ""


def test_a_node_that_ends_while_it_loads_a_model_leaves_no_shared_memory(graph: Graph) -> None:
    started = graph.start("detector_node", "-p", "backends:=[fake]", "-p", "fake.open_s:=30.0")
    graph.wait_for_state("detector", "configuring")
    segments = shared_memory(started.process.pid)
    assert segments
    assert started.end(signal.SIGINT, 20.0) == 0
    assert "ends in the middle of its work" in started.log()
    assert [path for path in segments if path.exists()] == []


def test_a_node_that_there_is_none_of_is_refused() -> None:
    words = [sys.executable, "-m", "trt_perception.ros.start", "nonsense"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is no node 'nonsense'; give one of detector_node, camera_node" in done.stderr
