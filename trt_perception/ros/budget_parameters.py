"""The parameters of the budget monitor, and the settings of the core that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trt_perception.control_budget import BudgetMonitor, BudgetThresholds
from trt_perception.ros.parameters import ParameterSpec

_DEFAULTS = BudgetThresholds()

PARAMETERS = [
    ParameterSpec(
        "latency_topics",
        ("inference_latency",),
        "topics on which detectors report their latency (pal_statistics_msgs/Statistics), one a detector",
        read_only=True,
    ),
    ParameterSpec("control_rate_hz", 50.0, "rate of the control loop; its period is what shares are of", 0.1, 10_000),
    ParameterSpec(
        "control_topic",
        "",
        "a topic of any type that the control loop publishes or takes once a period, from whose arrivals the period "
        "is learned; empty: control_rate_hz says it",
        read_only=True,
    ),
    ParameterSpec("window_s", 10.0, "how far back the figures look", 0.1, 3600, read_only=True),
    ParameterSpec("borderline_share", _DEFAULTS.borderline_share, "p99 share from which it is borderline", 0.001, 1),
    ParameterSpec("over_share", _DEFAULTS.over_share, "p99 share from which it is over_budget", 0.001, 1),
    ParameterSpec("margin_share", _DEFAULTS.margin_share, "how far below a threshold the level falls again", 0, 1),
    ParameterSpec("hold_s", _DEFAULTS.hold_ns / 1e9, "how long it has to stay below before it does", 0, 3600),
    ParameterSpec(
        "max_report_delay_s", 1.0, "an inference reported longer after its end is discarded", 0, 3600, read_only=True
    ),
    ParameterSpec("publish_rate_hz", 5.0, "how often control_budget is published", 0.01, 100, read_only=True),
    ParameterSpec("diagnostics_period_s", 1.0, "time between two /diagnostics messages", 0.01, 3600, read_only=True),
]

NAMES = frozenset(spec.name for spec in PARAMETERS)


def thresholds_from(values: Mapping[str, Any]) -> BudgetThresholds:
    """The thresholds that the parameters say; raises ValueError when they contradict each other."""
    return BudgetThresholds(
        borderline_share=values["borderline_share"],
        over_share=values["over_share"],
        margin_share=values["margin_share"],
        hold_ns=round(values["hold_s"] * 1e9),
    )


def monitor_from(values: Mapping[str, Any], topics: list[str]) -> BudgetMonitor:
    """A monitor of the detectors on `topics` with the settings that the parameters say; raises ValueError."""
    return BudgetMonitor(
        topics,
        values["control_rate_hz"],
        learns=bool(values["control_topic"]),
        thresholds=thresholds_from(values),
        window_ns=round(values["window_s"] * 1e9),
        lateness_ns=round(values["max_report_delay_s"] * 1e9),
    )
