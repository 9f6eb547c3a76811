"""What the nodes write, seen from outside: shared memory of the middleware, ROS's log folder, and nothing else."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed", exc_type=ImportError)
from vision_msgs.msg import Detection2DArray

from test.ros.graph import Graph, grey
from trt_perception.ros.node_processes import end_process

TRACED = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate"
# Shared memory of Fast DDS, and what every process may open for writing.
HARMLESS = re.compile(r"/dev/(shm|null|tty)\b|/proc/(self|\d+)/")
_CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)")
_FAILED = re.compile(r"= -1 E[A-Z]+")


def written(trace: Path) -> set[str]:
    """Paths that were made, opened for writing, renamed or linked; relative ones as they were given."""
    found: set[str] = set()
    for line in trace.read_text(errors="replace").splitlines():
        call = _CALL.match(line)
        if call is None or _FAILED.search(line):
            continue
        arguments = call["arguments"]
        if call["name"] in ("open", "openat") and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", arguments):
            continue
        found.update(re.findall(r'"((?:[^"\\]|\\.)*)"', arguments))
    return {path for path in found if not HARMLESS.match(path)}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_it_sees_what_a_process_writes(tmp_path: Path) -> None:
    trace, target = tmp_path / "trace", tmp_path / "target"
    command = ["strace", "-D", "-f", "-qq", "-o", str(trace), "-e", f"trace={TRACED}"]
    code = f"import os; t = {str(target)!r}; open(t, 'w').close(); os.mkdir(t + '2'); open('/etc/passwd').close()"
    done = subprocess.run([*command, sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert {str(target), f"{target}2"} <= written(trace)
    assert "/etc/passwd" not in written(trace)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("node", ["detector_node", "budget_monitor_node", "camera_node"])
def test_a_node_writes_nowhere_but_into_the_log_folder(graph: Graph, tmp_path: Path, node: str) -> None:
    home, here, logs = (tmp_path / name for name in ("home", "here", "logs"))
    for folder in (home, here):
        folder.mkdir()
    trace = tmp_path / "trace"
    environment = {
        **graph.environment(),
        "HOME": str(home),
        "ROS_LOG_DIR": str(logs),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("XDG_CACHE_HOME", "ROS_HOME", "TMPDIR", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    detections = graph.listen(Detection2DArray, "detections")
    topic = "image_raw" if node == "camera_node" else "image"
    command = ["strace", "-D", "-f", "-qq", "-o", str(trace), "-e", f"trace={TRACED}"]
    process = subprocess.Popen(
        [*command, sys.executable, "-m", f"trt_perception.ros.{node}", "--ros-args", "-p", "diagnostics_period_s:=0.2"],
        env=environment,
        cwd=here,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if node == "detector_node":
            camera = graph.camera(topic)
            camera.wait_for_subscriber(120.0)
            for _ in range(10):
                camera.send(grey())
                detections.wait_for(timeout_s=120.0)
                detections.clear()
        else:
            name = f"/{node.removesuffix('_node')}"
            graph.wait_until(lambda: name[1:] in graph.node.get_node_names(), f"{name} on the graph", 120.0)
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 0
    finally:
        end_process(process)
    assert trace.stat().st_size > 0
    strangers = {path for path in written(trace) if not path.startswith(str(logs))}
    assert strangers == set()
    assert list(home.iterdir()) == [] and list(here.iterdir()) == []
