"""One detector under test with a camera that is a process of its own, and what the graph hears of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from pal_statistics_msgs.msg import Statistics

from test.logged_process import LoggedProcess
from test.ros.graph import Graph, values_of
from trt_perception.ros.node_processes import end_process

WAIT_S = 60.0


@dataclass(frozen=True)
class Row:
    """What became of one kind of fault. frames_lost: not looked at, or failed, while it was there.

    recovery_s: the worst time until results came again; None where nothing was to recover.
    """

    fault: str
    times: int
    outcome: str
    crashes: int
    frames: int
    frames_lost: int
    recovery_s: float | None
    seconds: float

    def document(self) -> dict[str, Any]:
        return asdict(self)


class Bench:
    """The detector's process, the newest of its diagnostics, and when its last results came."""

    def __init__(self, graph: Graph, *arguments: str) -> None:
        self.graph = graph
        self.status: dict[str, tuple[bytes, str, dict[str, str]]] = {}
        # Arrival (time.monotonic), backend_index and publish_ms.
        self.results: deque[tuple[float, int, float]] = deque(maxlen=2000)
        self.result_count = 0
        graph.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        graph.node.create_subscription(Statistics, "inference_latency", self._on_result, 10)
        self.node: LoggedProcess = graph.start("detector_node", "-p", "diagnostics_period_s:=0.2", *arguments)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            what = status.name.rpartition(": ")[2]
            self.status[what] = (status.level, status.message, {v.key: v.value for v in status.values})

    def _on_result(self, message: Any) -> None:
        values = values_of(message)
        self.results.append((time.monotonic(), int(values["backend_index"]), values["publish_ms"]))
        self.result_count += 1

    @property
    def crashed(self) -> bool:
        """True when the process has ended, which nobody asked it to."""
        return self.node.process.poll() is not None

    def count(self, name: str) -> int:
        """A counter of the camera, as /diagnostics gave it last; 0 before."""
        return int(self.status.get("input image", (b"", "", {}))[2].get(f"{name}_count", 0))

    def lost(self) -> int:
        return sum(self.count(name) for name in ("dropped", "lost", "failed", "malformed"))

    def value(self, name: str) -> str:
        return self.status.get("inference", (b"", "", {}))[2].get(name, "")

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not holds():
            assert not self.crashed, f"the detector ended, waiting for {what}: {self.node.log()[-3000:]}"
            assert time.monotonic() < end_s, f"not within {timeout_s} s: {what}; {self.status}"
            time.sleep(0.005)

    def first_result_after(self, since_s: float, wanted: Callable[[int], bool] = lambda _: True) -> float:
        """Waits for a result that came after `since_s`; returns how long it took (s)."""

        def found() -> list[float]:
            return [at for at, index, _ in list(self.results) if at > since_s and wanted(index)]

        self.wait_until(lambda: bool(found()), "a result")
        return found()[0] - since_s

    def wait_until_active(self) -> None:
        self.wait_until(lambda: self.value("lifecycle_state") == "active", "an active detector")

    def settle(self, seconds: float = 0.6) -> None:
        """Until /diagnostics has told what happened so far."""
        time.sleep(seconds)


@contextmanager
def bench(*arguments: str) -> Iterator[Bench]:
    with Graph() as graph:
        yield Bench(graph, *arguments)


class Camera:
    """test.soak.camera as a process."""

    def __init__(self, graph: Graph, rate_hz: float) -> None:
        environment = graph.environment()
        # Small pictures need no large shared-memory segment, and a killed process leaves its own behind.
        for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
            environment.pop(name, None)
        words = [sys.executable, "-m", "test.soak.camera", str(rate_hz)]
        self.process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)

    def said_s(self, what: str) -> float:
        """Waits for the `first` picture, then for the first that was `heard`; returns when (time.monotonic)."""
        assert self.process.stdout is not None
        word, at_s = self.process.stdout.readline().split()
        assert word == what
        return float(at_s)

    def kill(self) -> None:
        self.process.kill()
        self._gone()

    def end(self) -> None:
        end_process(self.process)
        self._gone()

    def _gone(self) -> None:
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def filming(graph: Graph, rate_hz: float) -> Iterator[Camera]:
    camera = Camera(graph, rate_hz)
    try:
        camera.said_s("first")
        yield camera
    finally:
        camera.end()


@contextmanager
def deaf_subscriber(graph: Graph) -> Iterator[subprocess.Popen[str]]:
    """A process that has subscribed to the results and never reads them."""
    words = [sys.executable, "-m", "test.soak.deaf"]
    process = subprocess.Popen(words, env=graph.environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "deaf\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
