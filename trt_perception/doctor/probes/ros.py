"""ROS 2: from a distribution or from wheels, which one, and whether rclpy starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level, missing
from trt_perception.doctor.probes.distributions import import_facts, installed

_INSTALL = "source a distribution (`source /opt/ros/DISTRO/setup.bash`), or run `make setup` in the checkout"


def look(argument: str) -> dict[str, Any]:
    """rclpy, ROS_DISTRO, prefixes, and the wheels if it came as wheels."""
    facts = {
        **import_facts("rclpy"),
        "ros_distro": os.environ.get("ROS_DISTRO"),
        "prefixes": [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p],
        "wheels": installed(r"ros-rclpy|ros-[a-z]+-rclpy"),
        "distributions": sorted(p.name for p in Path("/opt/ros").glob("*") if (p / "setup.bash").is_file()),
    }
    if "version" in facts:
        import rclpy

        facts["path"] = str(Path(rclpy.__file__).parent)
    return facts


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Absent matters to the nodes only; two prefixes of which one is made of wheels do not fit."""
    if (problem := missing(facts, _INSTALL)) is not None:
        if problem.level is Level.ABSENT and facts["distributions"]:
            names = ", ".join(facts["distributions"])
            remedy = f"`source /opt/ros/{facts['distributions'][0]}/setup.bash` (with a Python of the same version)"
            return Judgement(Level.ABSENT, f"installed in /opt/ros ({names}), but not sourced", remedy)
        return problem
    origin = "Python wheels" if facts["wheels"] else "a distribution"
    words = f"{facts['ros_distro'] or 'ROS_DISTRO not set'}, rclpy from {origin} ({facts['path']})"
    sourced = [p for p in facts["prefixes"] if str(p).startswith("/opt/ros/")]
    if facts["wheels"] and sourced:
        return Judgement(
            Level.WARNING,
            f"{words}, and {', '.join(sourced)} is sourced over it",
            "use a shell in which no distribution is sourced: the two do not fit each other",
        )
    return Judgement(Level.OK, words)
