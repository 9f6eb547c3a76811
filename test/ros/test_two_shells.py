"""What the README tells people to type: `.venv` activated in two shells, a camera in one, the detector in the other."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from vision_msgs.msg import Detection2DArray

from test.logged_process import LoggedProcess
from test.ros.graph import CHECKOUT, Graph, Mailbox
from trt_perception.ros.node_processes import end_process

ACTIVATE = CHECKOUT / ".venv" / "bin" / "activate"
pytestmark = pytest.mark.skipif(not ACTIVATE.is_file(), reason=f"{ACTIVATE} is not there: `make setup` makes it")

CAMERA = "camera_node"
DETECTOR = "detector_node --ros-args -r image:=image_raw --params-file config/detector.yaml"
# What activation is there for: images neither get lost nor slow.
EXPORTED = ("FASTRTPS_DEFAULT_PROFILES_FILE", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


class Shells:
    """Fresh shells, one a command; a shell becomes its command, as `exec` does it."""

    def __init__(self, graph: Graph) -> None:
        # As little as a login gives, so that nothing comes from the environment that the tests run in.
        self._environment = {
            **{name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ},
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "ROS_DOMAIN_ID": str(graph.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        }
        self._stack = ExitStack()

    def type(self, command: str) -> LoggedProcess:
        log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", f"source .venv/bin/activate && exec {command}"],
            cwd=CHECKOUT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(end_process, process)
        return LoggedProcess(process, log)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def shells(graph: Graph) -> Iterator[Shells]:
    shells = Shells(graph)
    yield shells
    shells.close()


def _stamps(mailbox: Mailbox) -> list[float]:
    return [m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in mailbox.messages]


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ended", "killed"])
def test_detections_flow_again_when_the_camera_was_started_again(
    graph: Graph, shells: Shells, end: signal.Signals
) -> None:
    detections = graph.listen(Detection2DArray, "detections")
    detector = shells.type(DETECTOR)
    camera = shells.type(CAMERA)
    detections.wait_for(lambda m: len(m.detections) > 0)
    for typed in (detector, camera):
        words = Path(f"/proc/{typed.process.pid}/environ").read_bytes().decode().split("\0")
        names = {word.partition("=")[0] for word in words}
        assert names.issuperset(EXPORTED)

    assert camera.end(end) == (0 if end == signal.SIGINT else -end)
    last = max(_stamps(detections))
    shells.type(CAMERA)
    detections.wait_for(lambda m: m.header.stamp.sec + m.header.stamp.nanosec / 1e9 > last + 0.5)
    assert detector.process.poll() is None

    assert detector.end() == 0
    assert "Traceback" not in detector.log()
    assert detector.log().count("active: listens on /image_raw") == 1
