"""Quality of service of every topic, in one place."""

from __future__ import annotations

import copy
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


def _profile(
    depth: int,
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


# Best effort takes images from reliable and from best-effort cameras; depth 1, because only the newest one counts.
IMAGE_SUBSCRIPTION = _profile(1, ReliabilityPolicy.BEST_EFFORT)
# Reliable serves best-effort readers too, and RViz, which asks for reliable.
IMAGE_PUBLISHER = _profile(1)
RESULTS = _profile(10)
MONITOR_SUBSCRIPTION = _profile(100)
LATCHED = _profile(1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def overridable(profile: QoSProfile) -> dict[str, Any]:
    """Arguments for create_publisher and create_subscription with which parameters may change the profile.

    The parameters are `qos_overrides.<topic>.<publisher|subscription>.<history|depth|reliability>`. rclpy writes them
    into the profile that it is given: it gets one of its own, so that one topic's are not the next one's too.
    """
    return {
        "qos_profile": copy.copy(profile),
        "qos_overriding_options": QoSOverridingOptions.with_default_policies(),
    }


def refused_override(error: Exception) -> str | None:
    """What rclpy's error for a qos_overrides parameter means whose value is no policy; None for any other error."""
    if not isinstance(error, RuntimeError) or "QoS override" not in str(error):
        return None
    return (
        f"{error}; correct the parameter qos_overrides.<topic>.<publisher or subscription>: reliability is reliable or "
        "best_effort, history is keep_last or keep_all, depth is a number"
    )
