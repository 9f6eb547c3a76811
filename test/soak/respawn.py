"""A detector that dies, or hangs, under the real `ros2 launch`: how long until it is back and active."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections import deque

from vision_msgs.msg import Detection2DArray

from test.launch.ros2_launch import Launched, launched
from test.ros.graph import Graph
from test.soak.bench import Row, filming
from trt_perception.inference_watchdog import EXIT_CODE_HUNG

RATE_HZ = 30.0
_DIED = re.compile(r"detector_node-\d+\]: process has died \[pid \d+, exit code (-?\d+)")


def available() -> bool:
    """True where there is a `ros2` command."""
    return shutil.which("ros2") is not None


def killed(times: int) -> Row:
    """SIGKILL; recovery is from then to the first result of the one that the launch file started."""
    start_s, recovery_s = time.monotonic(), []
    with _Heard() as heard, launched(heard.graph, "demo.launch.py") as demo:
        heard.wait_for_result(demo, time.monotonic())
        for _ in range(times):
            pid = demo.pids()["detector_node"]
            os.kill(pid, signal.SIGKILL)
            recovery_s.append(heard.wait_for_result(demo, time.monotonic(), other_than=pid))
        _end(demo)
        assert _exit_codes(demo) == [-signal.SIGKILL] * times
    return _row("detector killed, under ros2 launch", times, recovery_s, start_s)


def hung(times: int, locked: bool) -> Row:
    """Each detector answers fifty frames and then hangs; recovery includes inference_timeout_s, 2 s."""
    start_s, recovery_s = time.monotonic(), []
    with _Heard() as heard, tempfile.NamedTemporaryFile("w", suffix=".yaml") as parameters:
        values = f"backends: [fake], fake.hang_from: 50, fake.hang_locked: {str(locked).lower()}"
        parameters.write(f"/**/detector: {{ros__parameters: {{{values}}}}}\n")
        parameters.flush()
        arguments = ("detector.launch.py", f"params_file:={parameters.name}", "image_topic:=/image")
        with filming(heard.graph, RATE_HZ), launched(heard.graph, *arguments) as detector:
            heard.wait_for_result(detector, time.monotonic())
            for _ in range(times):
                pid = detector.pids()["detector_node"]
                recovery_s.append(heard.longest_gap(detector, pid))
            _end(detector)
            assert _exit_codes(detector)[:times] == [EXIT_CODE_HUNG] * times
            assert "an inference has not returned for 2 s" in detector.log()
    lock = "holding the interpreter lock" if locked else "without the interpreter lock"
    return _row(f"inference hangs {lock}, under ros2 launch", times, recovery_s, start_s)


class _Heard:
    """When results came, in a graph of its own."""

    def __enter__(self) -> _Heard:
        self.graph = Graph().__enter__()
        self.arrivals: deque[float] = deque(maxlen=100)
        self.graph.node.create_subscription(
            Detection2DArray, "detections", lambda _: self.arrivals.append(time.monotonic()), 10
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.graph.__exit__()

    def wait_for_result(self, launch: Launched, since_s: float, other_than: int = 0) -> float:
        """Waits for a result of another process than that one; returns how long it took (s)."""

        def back() -> bool:
            return bool(self.arrivals) and self.arrivals[-1] > since_s and _pid(launch) != other_than

        self.graph.wait_until(back, "a result", 60.0)
        return self.arrivals[-1] - since_s

    def longest_gap(self, launch: Launched, pid: int) -> float:
        """Waits until another process answers; returns how long there was no answer (s)."""
        self.graph.wait_until(lambda: _pid(launch) != pid, "another process", 60.0)
        last_s = self.arrivals[-1]
        self.graph.wait_until(lambda: self.arrivals[-1] > last_s, "a result", 60.0)
        return self.arrivals[-1] - last_s


def _pid(launch: Launched) -> int | None:
    return launch.pids().get("detector_node")


def _exit_codes(launch: Launched) -> list[int]:
    return [int(code) for code in _DIED.findall(launch.log())]


def _end(launch: Launched) -> None:
    launch.process.send_signal(signal.SIGINT)
    assert launch.process.wait(15.0) == 0, launch.log()[-2000:]


def _row(fault: str, times: int, recovery_s: list[float], start_s: float) -> Row:
    seconds = round(time.monotonic() - start_s, 1)
    return Row(fault, times, "started again, configured, active", 0, 0, 0, round(max(recovery_s), 3), seconds)
