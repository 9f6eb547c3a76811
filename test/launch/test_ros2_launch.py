"""`ros2 launch trt_perception demo.launch.py` for real; runs where the ros2 command is installed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
if shutil.which("ros2") is None:
    pytest.skip("the ros2 command is not on PATH", allow_module_level=True)

from pal_statistics_msgs.msg import Statistics
from vision_msgs.msg import Detection2DArray

from test.launch.ros2_launch import launched
from test.ros.graph import Graph
from trt_perception.dds_environment import dds_variables
from trt_perception.resources import share_directory

NODES = {"detector_node", "budget_monitor_node", "camera_node"}


@pytest.mark.slow
def test_the_demo_detects_survives_a_killed_detector_and_ends_cleanly(graph: Graph) -> None:
    detections = graph.listen(Detection2DArray, "detections")
    budget = graph.listen(Statistics, "control_budget")
    with launched(graph, "demo.launch.py") as demo:
        detections.wait_for(lambda m: len(m.detections) > 0)
        budget.wait_for()
        pids = demo.pids()
        assert set(pids) == NODES
        wanted = {f"{name}={value}" for name, value in dds_variables(share_directory() / "config").items()}
        for pid in pids.values():
            assert wanted <= set(Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0"))

        os.kill(pids["detector_node"], signal.SIGKILL)
        killed_s = time.time()
        detections.wait_for(lambda m: m.header.stamp.sec > killed_s + 1, timeout_s=10.0)
        again = demo.pids()
        assert again["detector_node"] != pids["detector_node"]

        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(10.0) == 0
        assert "Traceback" not in demo.log()
        for name in NODES:
            assert re.search(rf"\[{name}-\d+\]: process has finished cleanly \[pid {again[name]}\]", demo.log())


@pytest.mark.slow
def test_everything_goes_below_the_namespace_and_compressed_images_are_found(graph: Graph) -> None:
    detections = graph.listen(Detection2DArray, "/robot1/detections")
    arguments = ("namespace:=robot1", "image_topic:=eye/image", "image_transport:=compressed")
    with launched(graph, "demo.launch.py", *arguments) as demo:
        detections.wait_for(lambda m: len(m.detections) > 0)
        topics = dict(graph.node.get_topic_names_and_types())
        assert topics["/robot1/eye/image/compressed"] == ["sensor_msgs/msg/CompressedImage"]
        common = {"/diagnostics", "/rosout", "/parameter_events"}
        assert {name for name in topics if not name.startswith("/robot1/")} <= common
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(10.0) == 0
