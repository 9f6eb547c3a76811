"""The node `budget_monitor` as a process of its own, over real DDS; this process plays detector and control loop."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from pal_statistics_msgs.msg import Statistics  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from std_msgs.msg import Empty, Header  # noqa: E402

from trt_perception.ros.messages import statistics_message, statistics_values  # noqa: E402

S = 1_000_000_000
START_TIMEOUT_S = 60.0
_serial = itertools.count()


class Robot:
    """A node that publishes latency and ticks, and remembers what the monitor says."""

    def __init__(self, domain_id: int) -> None:
        self.domain_id = domain_id
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain_id)
        self.node = Node("robot", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.budgets: list[dict[str, float]] = []
        self.statuses: list[DiagnosticStatus] = []
        self.ticks = self.node.create_publisher(Empty, "tick", 10)
        self._latency = self.node.create_publisher(Statistics, "inference_latency", 10)
        self.node.create_subscription(Statistics, "control_budget", self._on_budget, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._client = self.node.create_client(SetParameters, "budget_monitor/set_parameters")

    def simulate_time(self) -> None:
        """Publishes /clock at the speed of real time, while it listens."""
        clock = self.node.create_publisher(Clock, "/clock", 10)
        begin_ns = time.monotonic_ns()

        def advance() -> None:
            now_ns = time.monotonic_ns() - begin_ns
            clock.publish(Clock(clock=Time(sec=now_ns // S, nanosec=now_ns % S)))

        self.node.create_timer(0.02, advance)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.1)
        return True

    def detect(self, inference_ms: float, seconds: float) -> None:
        """Inferences of a known length on the grid of 50 ms, each reported when it is done."""
        grid_ns = S // 20
        start_ns = (self.node.get_clock().now().nanoseconds // grid_ns + 1) * grid_ns
        for at_ns in range(start_ns, start_ns + round(seconds * S), grid_ns):
            done_ns = at_ns + round(inference_ms * 1e6)
            self.listen(max(0.0, (done_ns - self.node.get_clock().now().nanoseconds) / 1e9))
            self.report(at_ns, {"inference_start_offset_ms": 0.0, "inference_ms": inference_ms})

    def report(self, stamp_ns: int, figures: dict[str, float]) -> None:
        header = Header(stamp=Time(sec=stamp_ns // S, nanosec=stamp_ns % S))
        self._latency.publish(statistics_message(header, figures))

    def tick(self, rate_hz: float, seconds: float) -> None:
        """Ticks at a steady rate."""
        begin = time.monotonic()
        for number in range(round(rate_hz * seconds)):
            self.listen(max(0.0, begin + number / rate_hz - time.monotonic()))
            self.ticks.publish(Empty())

    def ticks_until_learned(self, rate_hz: float, seconds: float) -> float:
        """The monitor's period, ms, after ticks for some seconds; longer where the machine held ticks up meanwhile."""
        for _ in range(5):
            self.tick(rate_hz, seconds)
            learned = self.budgets[-1]["control_period_ms"]
            if abs(learned * rate_hz / 1e3 - 1) < 0.01:
                break
        return learned

    def set_parameter(self, name: str, value: Any) -> Any:
        assert self._client.wait_for_service(timeout_sec=10)
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        future = self._client.call_async(request)
        assert self.wait_for(future.done, 10)
        return future.result().results[0]

    def status(self) -> DiagnosticStatus:
        """The next status of the monitor."""
        self.statuses.clear()
        assert self.wait_for(lambda: bool(self.statuses), 10), "no status in /diagnostics"
        return self.statuses[-1]

    def _on_budget(self, message: Statistics) -> None:
        self.budgets.append(statistics_values(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses += [status for status in message.status if status.name == "/budget_monitor: control budget"]


def environment(domain_id: int) -> dict[str, str]:
    return {**os.environ, "ROS_DOMAIN_ID": str(domain_id), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def follow(domain_id: int, *options: str) -> subprocess.Popen[str]:
    """Starts `trt-perception budget`."""
    return subprocess.Popen(
        [sys.executable, "-m", "trt_perception.cli.main", "budget", *options],
        env=environment(domain_id),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def monitored(*parameters: str) -> Iterator[Robot]:
    """A robot beside a monitor process with the given `name:=value` parameters, in a domain of their own."""
    # 0 to 101 are the domain ids whose ports are free on Linux.
    domain_id = (os.getpid() * 7 + 50 + next(_serial)) % 101 + 1
    arguments = [word for parameter in parameters for word in ("-p", parameter)]
    process = subprocess.Popen(
        [sys.executable, "-m", "trt_perception.ros.start", "budget_monitor_node", "--ros-args", *arguments],
        env=environment(domain_id),
        stderr=subprocess.PIPE,
        text=True,
    )
    robot = Robot(domain_id)
    if "use_sim_time:=true" in parameters:
        robot.simulate_time()
    try:
        assert robot.wait_for(lambda: bool(robot.budgets), START_TIMEOUT_S), "the monitor says nothing"
        yield robot
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    finally:
        robot.close()
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(autouse=True)
def local_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def test_a_detector_becomes_slow_and_recovers() -> None:
    window_s, hold_s = 3.0, 0.5
    with monitored(f"window_s:={window_s}", f"hold_s:={hold_s}", "diagnostics_period_s:=0.2") as robot:
        status = robot.status()
        assert status.level == DiagnosticStatus.STALE
        assert status.message.startswith("no inference within the last 3 s")
        assert robot.budgets[-1]["verdict_level"] == 3.0

        robot.detect(3.0, window_s + 1.0)
        budget = robot.budgets[-1]
        assert budget["inference_share_p99_percent"] == pytest.approx(15.0, abs=2.0)
        assert budget["latency_ratio_percent"] == pytest.approx(15.0, abs=2.0)
        assert budget["all_periods_share_mean_percent"] == pytest.approx(6.0, abs=2.0)
        assert budget["headroom_p99_ms"] == pytest.approx(17.0, abs=0.4)
        assert budget["verdict_level"] == 0.0
        status = robot.status()
        assert status.level == DiagnosticStatus.OK
        assert status.message == "inference uses 15.0 % of the 20.0 ms control period (p99 15 %): real_time"

        robot.budgets.clear()
        robot.detect(25.0, window_s)
        assert robot.budgets[-1]["verdict_level"] == 2.0
        assert robot.status().level == DiagnosticStatus.ERROR
        robot.detect(3.0, window_s + 2 * hold_s + 2.0)
        assert robot.budgets[-1]["verdict_level"] == 0.0
        levels = [level for level, _ in itertools.groupby(budget["verdict_level"] for budget in robot.budgets)]
        # Up once and down once, over borderline or past it.
        peak = levels.index(2.0)
        assert levels[: peak + 1] == sorted(levels[: peak + 1])
        assert levels[peak:] == sorted(levels[peak:], reverse=True)


def test_parameters_change_while_running_and_nonsense_is_refused() -> None:
    with monitored("window_s:=3.0", "diagnostics_period_s:=0.2") as robot:
        robot.detect(3.0, 2.0)
        assert robot.set_parameter("control_rate_hz", 100.0).successful
        robot.detect(3.0, 1.0)
        assert robot.budgets[-1]["control_period_ms"] == 10.0
        assert robot.budgets[-1]["latency_ratio_percent"] == pytest.approx(30.0)
        assert robot.budgets[-1]["verdict_level"] == 1.0
        refused = robot.set_parameter("over_share", 0.1)
        assert not refused.successful
        assert "expected 0 <= margin < borderline < over <= 1" in refused.reason
        assert not robot.set_parameter("control_rate_hz", 0.0).successful
        assert not robot.set_parameter("window_s", 5.0).successful


def test_messages_that_cannot_be_used_are_said() -> None:
    with monitored("diagnostics_period_s:=0.2") as robot:
        robot.detect(3.0, 1.0)
        robot.report(robot.node.get_clock().now().nanoseconds, {"total_ms": 3.0})
        robot.listen(1.0)
        status = robot.status()
        assert status.level == DiagnosticStatus.WARN
        assert "/inference_latency: latency message has no inference_start_offset_ms" in status.message


def test_the_period_is_learned_from_a_topic_of_any_type() -> None:
    with monitored("control_topic:=tick", "control_rate_hz:=10.0", "diagnostics_period_s:=0.2") as robot:
        assert "is not known" in robot.status().message
        assert robot.ticks_until_learned(50.0, 4.0) == pytest.approx(20.0, rel=0.01)
        assert robot.budgets[-1]["control_jitter_p99_ms"] < 10.0
        assert robot.ticks_until_learned(100.0, 2.5) == pytest.approx(10.0, rel=0.01)
        values = {value.key: value.value for value in robot.status().values}
        assert (values["control_topic"], values["period_source"]) == ("/tick", "control_topic")


def test_under_simulated_time_it_says_what_shares_mean() -> None:
    with monitored("use_sim_time:=true", "diagnostics_period_s:=0.2") as robot:
        assert robot.status().message.endswith(
            "under simulated time shares mean nothing unless the real-time factor is 1"
        )
        assert 0.0 < robot.budgets[-1]["periods_seen_count"] < 5000.0


def test_the_command_line_follows_it_and_saves_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "budget.png"
    with monitored() as robot:
        command = follow(robot.domain_id, "--json", "--duration", "3", "--save", str(picture))
        while command.poll() is None:
            robot.detect(3.0, 0.5)
        output, errors = command.communicate()
        assert command.returncode == 0, errors
        last = json.loads(output.splitlines()[-1])
        assert last["sentence"] == "inference uses 15.0 % of the 20.0 ms control period (p99 15 %): real_time"
        assert last["verdict"] == "real_time"
        assert picture.read_bytes().startswith(b"\x89PNG")

        wrong = follow(robot.domain_id, "--topic", "inference_latency")
        while wrong.poll() is None:
            robot.detect(3.0, 0.5)
        _, errors = wrong.communicate()
        assert wrong.returncode == 1
        assert "a message on /inference_latency has no borderline_threshold_percent" in errors


def test_without_a_terminal_the_view_comes_once_a_second() -> None:
    with monitored() as robot:
        command = follow(robot.domain_id, "--duration", "2.5")
        while command.poll() is None:
            robot.detect(3.0, 0.5)
        output, errors = command.communicate()
        assert command.returncode == 0, errors
        # The monitor sends five a second.
        assert 1 <= output.count("share of a period, %") <= 3
        assert "\x1b" not in output


def test_the_command_line_says_that_no_monitor_speaks() -> None:
    command = follow(101, "--wait", "0.5", "--topic", "nobody/control_budget")
    _, errors = command.communicate(timeout=START_TIMEOUT_S)
    assert command.returncode == 1
    assert "nothing came on /nobody/control_budget within 0.5 s; start budget_monitor_node" in errors


def test_a_start_with_nonsense_is_refused_with_the_reason() -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "trt_perception.ros.start",
            "budget_monitor_node",
            "--ros-args",
            *("-p", "over_share:=0.1"),
        ],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 1
    assert "cannot start: thresholds are margin 0.02, borderline 0.25, over 0.1" in result.stderr
