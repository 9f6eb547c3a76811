"""The names of several cameras, checked before topics are made of them."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node

from trt_perception.errors import PerceptionError


def checked_camera_names(node: Node, names: Sequence[str]) -> list[str]:
    """The value of camera_names, [""] for one camera without a name.

    Raises PerceptionError that names the entry which is empty, no name for topics, or another's once more.
    """
    if not names or list(names) == [""]:
        return [""]
    # Without remappings: two names may well be remapped to one camera.
    seen: dict[str, str] = {}
    for name in names:
        try:
            topic = node.resolve_topic_name(f"{name}/image", only_expand=True) if name else ""
        except (RuntimeError, InvalidTopicNameException):
            topic = ""
        if not topic:
            raise PerceptionError(
                f"camera_names has {name!r}; expected a name for topics, such as front or arm/left: letters, digits "
                "and underscores, no digit first, and no slash at the end"
            )
        if topic in seen:
            raise PerceptionError(
                f"camera_names has {name!r}, which is the same as {seen[topic]!r} before it ({topic}); give each "
                "camera a name of its own"
            )
        seen[topic] = name
    return list(names)
