"""The detector node as a process of its own, on the TensorRT backend, fed with camera frames over real DDS."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the node needs rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from pal_statistics_msgs.msg import Statistics
from vision_msgs.msg import Detection2DArray

from test.gpu.conftest import TACTICS, TIMINGS
from test.ros.graph import Graph, Mailbox, values_of
from trt_perception.heldout import heldout_scenes

FRAMES = 50
MOST_FRAMES = 300
STAGES = ("preprocess_ms", "host_to_device_ms", "inference_ms", "device_to_host_ms", "postprocess_ms", "total_ms")


@pytest.fixture(scope="module")
def engine() -> None:
    line = [sys.executable, "-m", "trt_perception.cli.main", "build-engine", "--model", "digits", "--fp16"]
    subprocess.run([*line, f"--tacticSources={TACTICS}", *TIMINGS], check=True, timeout=280)


def answers(latency: Mailbox, stamp_s: int) -> bool:
    """True when the node has processed the frame of that stamp."""
    with suppress(AssertionError):
        latency.wait_for(lambda message: message.header.stamp.sec == stamp_s, timeout_s=0.2)
        return True
    return False


def test_the_node_detects_and_reports_every_stage(engine: None) -> None:
    scenes = list(heldout_scenes(20, 640, 480, seed=9))
    with Graph() as graph:
        node = graph.start("detector_node", "-p", "backends:=['tensorrt:fp16']", "-p", "build_engine:=true")
        camera = graph.camera()
        detections = graph.listen(Detection2DArray, "detections")
        latency = graph.listen(Statistics, "inference_latency")
        camera.wait_for_subscriber()
        # Large pictures may get lost on the way, and all are before the two have found each other: send until answered.
        answered = sent = 0
        while answered < FRAMES and sent < MOST_FRAMES:
            camera.send(scenes[sent % len(scenes)].image_bgr, stamp=Time(sec=10 + sent))
            answered += answers(latency, 10 + sent)
            sent += 1
        last = latency.messages[-1]
        found = detections.wait_for(lambda message: message.header.stamp == last.header.stamp)
        code = node.end()
        log = node.log()
    values = values_of(last)
    rows = [values_of(message) for message in latency.messages]
    print(f"\n{answered} frames of {sent} that were sent; medians in ms:")
    for stage in STAGES:
        print(f"  {stage} {sorted(row[stage] for row in rows)[len(rows) // 2]:.3f}")
    assert answered == FRAMES
    assert set(STAGES) <= set(values)
    assert all(values[stage] > 0 for stage in STAGES)
    assert len(found.detections) == values["detection_count"] > 0
    assert code == 0, log
    assert "tensorrt, cuda:0" in log


def test_without_an_engine_the_node_names_the_command(tmp_path: Path) -> None:
    with Graph() as graph:
        diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        node = graph.start(
            "detector_node", "-p", "backends:=['tensorrt:fp16']", "-p", f"tensorrt.cache_directory:={tmp_path}"
        )
        status = diagnostics.wait_for(lambda m: any("build-engine" in s.message for s in m.status))
        node.end()
    message = next(s.message for s in status.status if "build-engine" in s.message)
    assert "trt-perception build-engine --model" in message and f"--fp16 --cache {tmp_path}" in message
