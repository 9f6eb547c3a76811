"""Names of several cameras: which are taken, and what is said of the others, before anything runs."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from test.ros.graph import Graph
from trt_perception.errors import PerceptionError
from trt_perception.ros.camera_names import checked_camera_names


@pytest.mark.parametrize("names", [["front", "rear"], ["arm/left", "/right", "_1"]])
def test_names_for_topics_are_taken_as_they_are(graph: Graph, names: list[str]) -> None:
    assert checked_camera_names(graph.node, names) == names


@pytest.mark.parametrize("names", [[], [""]])
def test_no_name_is_one_camera_without(graph: Graph, names: list[str]) -> None:
    assert checked_camera_names(graph.node, names) == [""]


@pytest.mark.parametrize("wrong", ["", "front cam", " rear", "left/", "1cam", "a//b", "left-eye", "{no}", "front\n"])
def test_what_is_no_name_is_refused_by_name(graph: Graph, wrong: str) -> None:
    with pytest.raises(PerceptionError, match=rf"camera_names has {re.escape(repr(wrong))}; expected .* front or"):
        checked_camera_names(graph.node, ["front", wrong])


@pytest.mark.parametrize("again", ["front", "/front"])
def test_a_name_twice_is_refused(graph: Graph, again: str) -> None:
    with pytest.raises(PerceptionError, match=rf"camera_names has '{again}', which is the same as 'front' .*/front/im"):
        checked_camera_names(graph.node, ["front", "rear", again])


@pytest.mark.parametrize("names", ["[front, /front]", "[front, '']", "['front cam']"])
def test_the_node_says_so_and_does_not_start(graph: Graph, names: str) -> None:
    node = graph.start("detector_node", "-p", "backends:=[fake]", "-p", f"camera_names:={names}")
    assert node.process.wait(30) == 1
    assert "cannot start: camera_names has " in node.log()
