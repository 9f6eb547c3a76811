"""The middleware (RMW) that was asked for, those that are installed, and whether it starts."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level

# Where every middleware registers itself: the ament resource index.
_INDEX = Path("share/ament_index/resource_index/rmw_typesupport")


def look(argument: str) -> dict[str, Any]:
    """What RMW_IMPLEMENTATION says, what the index lists, and what really starts."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    facts: dict[str, Any] = {
        "has_rclpy": importlib.util.find_spec("rclpy") is not None,
        "requested": os.environ.get("RMW_IMPLEMENTATION"),
        "registered": sorted({entry.name for p in prefixes for entry in (p / _INDEX).glob("rmw_*")}),
    }
    if not facts["has_rclpy"]:
        return facts
    if facts["requested"] and facts["requested"] not in facts["registered"]:
        # Not tried: rcl ends the whole process over it as soon as it is loaded.
        return facts | {"start_error": "it is not installed"}
    return facts | _start()


def _start() -> dict[str, Any]:
    # rclpy's own error types differ between distributions; all of them are RuntimeErrors or ImportErrors.
    try:
        import rclpy
        from rclpy.utilities import get_rmw_implementation_identifier

        rclpy.init(args=[])
        try:
            return {"running": get_rmw_implementation_identifier()}
        finally:
            rclpy.shutdown()
    except (RuntimeError, ImportError, OSError) as error:
        return {"start_error": str(error).strip() or type(error).__name__}


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Fails where the one that was asked for is not the one that runs."""
    if not facts["has_rclpy"]:
        return Judgement(Level.ABSENT, "no rclpy, so no middleware")
    others = [name for name in facts["registered"] if name != "rmw_implementation"]
    requested = facts["requested"]
    known = f"installed: {', '.join(others) or 'none'}"
    if "start_error" in facts or (requested and facts["running"] != requested):
        why = facts.get("start_error") or f"{facts['running']} runs"
        use = others[0] if others else "rmw_fastrtps_cpp"
        package = str(requested or use).replace("_", "-")
        return Judgement(
            Level.FAILED,
            f"RMW_IMPLEMENTATION={requested or ''} does not start ({known}): {_short(str(why))}",
            f"`export RMW_IMPLEMENTATION={use}`, or install it: `sudo apt install "
            f"ros-{os.environ.get('ROS_DISTRO') or 'DISTRO'}-{package}`",
        )
    return Judgement(Level.OK, f"{facts['running']} ({known})")


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
