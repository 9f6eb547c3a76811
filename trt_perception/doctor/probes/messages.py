"""Message packages: importable, loadable by the middleware, and with the fields that the nodes use."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level

# message → its fields with their types, as vision_msgs 4 and pal_statistics_msgs 2 define them. Of the others, whose
# definitions have not changed since ROS 2 began, being importable is enough.
FIELDS: dict[str, dict[str, str]] = {
    "vision_msgs/Detection2DArray": {"header": "std_msgs/Header", "detections": "sequence<vision_msgs/Detection2D>"},
    "vision_msgs/Detection2D": {
        "header": "std_msgs/Header",
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox2D",
        "id": "string",
    },
    "vision_msgs/ObjectHypothesis": {"class_id": "string", "score": "double"},
    "vision_msgs/BoundingBox2D": {"center": "vision_msgs/Pose2D", "size_x": "double", "size_y": "double"},
    "vision_msgs/LabelInfo": {
        "header": "std_msgs/Header",
        "class_map": "sequence<vision_msgs/VisionClass>",
        "threshold": "float",
    },
    "pal_statistics_msgs/Statistics": {
        "header": "std_msgs/Header",
        "statistics": "sequence<pal_statistics_msgs/Statistic>",
    },
    "pal_statistics_msgs/Statistic": {"name": "string", "value": "double"},
    "sensor_msgs/Image": {},
    "sensor_msgs/CompressedImage": {},
    "diagnostic_msgs/DiagnosticArray": {},
    "std_msgs/Header": {},
}


def look(argument: str) -> dict[str, Any]:
    """For each message what is wrong with it; an empty table when all is well."""
    problems = {}
    for message, wanted in FIELDS.items():
        problem = _problem(message, wanted)
        if problem is not None:
            problems[message] = problem
    return {
        "problems": problems,
        "checked": len(FIELDS),
        "has_rclpy": importlib.util.find_spec("rclpy") is not None,
        "ros_distro": os.environ.get("ROS_DISTRO"),
    }


def _problem(message: str, wanted: dict[str, str]) -> str | None:
    package, _, name = message.partition("/")
    try:
        kind = getattr(importlib.import_module(f"{package}.msg"), name)
        has = kind.get_fields_and_field_types()
        # Where the compiled half is missing this is what fails, at the first publisher.
        if kind.__class__._TYPE_SUPPORT is None:
            kind.__class__.__import_type_support__()
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    differences = [
        f"{field} is {has.get(field, 'missing')}, expected {t}" for field, t in wanted.items() if has.get(field) != t
    ]
    return "; ".join(differences) or None


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Any message that is missing or different fails, where rclpy is there at all."""
    problems: dict[str, str] = facts["problems"]
    if not facts["has_rclpy"]:
        return Judgement(Level.ABSENT, "no rclpy, so no messages are needed")
    if not problems:
        return Judgement(Level.OK, f"all {facts['checked']} that the nodes use, with the right fields")
    packages = sorted({message.split("/")[0] for message in problems})
    distro = facts["ros_distro"] or "DISTRO"
    debian = " ".join(f"ros-{distro}-{package.replace('_', '-')}" for package in packages)
    return Judgement(
        Level.FAILED,
        "; ".join(f"{message}: {problem}" for message, problem in problems.items()),
        f"install the right {', '.join(packages)}: `sudo apt install {debian}`, without a distribution `make setup`; "
        "another package of that name may come first on PYTHONPATH",
    )
