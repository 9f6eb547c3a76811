"""The node `budget_monitor`: what share of each control period inference takes, as figures and as a verdict."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from pal_statistics_msgs.msg import Statistics
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from trt_perception.control_budget import BudgetReport, MonitorReport, Verdict, named_report
from trt_perception.errors import PerceptionError
from trt_perception.ros import qos
from trt_perception.ros.budget_parameters import NAMES, PARAMETERS, monitor_from, thresholds_from
from trt_perception.ros.control_topic import ControlTopic
from trt_perception.ros.diagnostics import ERROR, OK, STALE, WARN, DiagnosticsPublisher, Status
from trt_perception.ros.messages import stamp_ns, statistics_message, statistics_values
from trt_perception.ros.parameters import declare_parameters
from trt_perception.ros.run_node import run_node

_LEVELS = {Verdict.REAL_TIME: OK, Verdict.BORDERLINE: WARN, Verdict.OVER_BUDGET: ERROR, Verdict.UNKNOWN: STALE}
_SIM_TIME = "under simulated time shares mean nothing unless the real-time factor is 1"


class BudgetMonitorNode(Node):
    """Subscribes to latency topics, publishes `control_budget` and a status in /diagnostics."""

    def __init__(self, **options: Any) -> None:
        super().__init__("budget_monitor", **options)
        declare_parameters(self, PARAMETERS)
        # Messages, reports and parameters come on several threads.
        self._lock = threading.Lock()
        names = self._values()["latency_topics"]
        self._topics = [self.resolve_topic_name(name) for name in names]
        try:
            self._monitor = monitor_from(self._values(), self._topics)
        except ValueError as error:
            raise PerceptionError(str(error)) from error
        self._report = self._monitor.report(self._now_ns())
        self._named: dict[str, float] = {}
        self._publisher = self.create_publisher(Statistics, "control_budget", **qos.overridable(qos.RESULTS))
        # A subscription remaps the name itself, and would remap a resolved one once more.
        for name, topic in zip(names, self._topics, strict=True):
            self.create_subscription(
                Statistics,
                name,
                partial(self._on_latency, topic),
                **qos.overridable(qos.MONITOR_SUBSCRIPTION),
            )
        ticks = self._values()["control_topic"]
        self._control = ControlTopic(self, ticks, self._on_control_arrival) if ticks else None
        self.create_timer(1.0 / self._values()["publish_rate_hz"], self._publish)
        self._diagnostics = DiagnosticsPublisher(self, self._values()["diagnostics_period_s"], self._statuses)
        self.add_on_set_parameters_callback(self._on_set_parameters)

    def start(self) -> None:
        """Says in the log what it listens to."""
        period = f"learned from {self._control.topic}" if self._control else f"{self._values()['control_rate_hz']:g} Hz"
        self.get_logger().info(f"listens on {', '.join(self._topics)}; control period: {period}")

    def stop(self) -> None:
        """Nothing runs besides the executor's callbacks."""

    def _values(self) -> dict[str, Any]:
        return {name: self.get_parameter(name).value for name in NAMES}

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _on_latency(self, topic: str, message: Statistics) -> None:
        with self._lock:
            self._monitor.add_latency(topic, stamp_ns(message.header.stamp), statistics_values(message), self._now_ns())

    def _on_control_arrival(self, arrival_ns: int) -> None:
        with self._lock:
            self._monitor.add_control_arrival(arrival_ns)

    def _publish(self) -> None:
        with self._lock:
            report = self._monitor.report(self._now_ns())
        self._named = named_report(report.united, report.learned)
        self._report = report
        header = Header(stamp=self.get_clock().now().to_msg())
        self._publisher.publish(statistics_message(header, self._named))

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        changed = {parameter.name: parameter.value for parameter in parameters}
        values = self._values() | changed
        try:
            thresholds = thresholds_from(values)
            with self._lock:
                if "control_rate_hz" in changed:
                    self._monitor.set_rate_hz(values["control_rate_hz"])
                self._monitor.set_thresholds(thresholds)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _statuses(self) -> list[Status]:
        report = self._report
        by_topic = report.united.by_topic
        statuses = [self._total_status(report)]
        if len(by_topic) > 1:
            statuses += [self._topic_status(topic, own) for topic, own in by_topic.items()]
        return statuses

    def _total_status(self, report: MonitorReport) -> Status:
        total = report.united.total
        values: dict[str, object] = {
            "verdict": total.verdict.label,
            "period_source": "control_rate_hz" if report.learned is None else "control_topic",
            **self._named,
        }
        if self._control is not None:
            values["control_topic"] = self._control.topic
        problems = list(report.problems)
        if self._control is not None and self._control.problem is not None:
            problems.append(self._control.problem)
        level = _LEVELS[total.verdict]
        if problems and level == OK:
            level = WARN
        message = "; ".join([self._sentence(self._topics, total), *problems])
        if self.get_clock().ros_time_is_active:
            message = f"{message}; {_SIM_TIME}"
        return Status("control budget", level, message, values)

    def _topic_status(self, topic: str, own: BudgetReport) -> Status:
        values = {name: value for name, value in self._named.items() if name.startswith(f"{topic}:")}
        return Status(f"control budget of {topic}", _LEVELS[own.verdict], self._sentence([topic], own), values)

    def _sentence(self, topics: Sequence[str], report: BudgetReport) -> str:
        """The report's sentence; where there is no inference, also whether anybody could report it."""
        if report.verdict is not Verdict.UNKNOWN:
            return report.sentence
        silent = [topic for topic in topics if self.count_publishers(topic) == 0]
        if not silent:
            return report.sentence
        return f"{report.sentence}: nobody publishes {', '.join(silent)}; start the detector or set latency_topics"


def main() -> int:
    """Entry point of the executable budget_monitor_node."""
    return run_node(BudgetMonitorNode)


if __name__ == "__main__":
    sys.exit(main())
