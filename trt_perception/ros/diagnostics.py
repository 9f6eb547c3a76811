"""/diagnostics: once a period, what each part of a node is at, and what to do when it is not well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from trt_perception.ros import qos

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR
STALE = DiagnosticStatus.STALE


@dataclass(frozen=True)
class Status:
    """One line of /diagnostics: what it is about, a level, a sentence, and values by name."""

    what: str
    level: bytes
    message: str
    values: Mapping[str, object] = field(default_factory=dict)
    hardware_id: str = ""


class DiagnosticsPublisher:
    """Publishes what `collect` returns every period; a plain publisher, so an inactive node still speaks."""

    def __init__(self, node: Node, period_s: float, collect: Callable[[], Sequence[Status]]) -> None:
        self._node = node
        self._collect = collect
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", **qos.overridable(qos.RESULTS))
        # A group of its own, so that it speaks while a service call takes its time; a clock of its own, so that it
        # speaks while a simulation stands still.
        node.create_timer(
            period_s,
            self.publish,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def publish(self) -> None:
        """Publishes now."""
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [self._to_message(status) for status in (*self._collect(), *self._clock())]
        self._publisher.publish(message)

    def _clock(self) -> list[Status]:
        clock = self._node.get_clock()
        if not clock.ros_time_is_active or clock.now().nanoseconds > 0:
            return []
        message = "use_sim_time is true, but no /clock has come; start the simulation, or set use_sim_time to false"
        return [Status("clock", WARN, message)]

    def _to_message(self, status: Status) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=status.level,
            name=f"{self._node.get_fully_qualified_name()}: {status.what}",
            message=status.message,
            hardware_id=status.hardware_id,
            values=[KeyValue(key=key, value=_text(value)) for key, value in status.values.items()],
        )


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
