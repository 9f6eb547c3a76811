"""Where images are published, for a camera that waits on a topic without any."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

_SUFFIX = "/compressed"
_SHOWN = 5


def type_name(message_type: type[Any]) -> str:
    """A message class's name on the graph, such as sensor_msgs/msg/Image."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def advice_for(node: Node, topic: str, image_name: str) -> str:
    """What to do about `topic`, on which no images are published: the topics that have some, or the other transport.

    topic: resolved, with /compressed if the node takes compressed images. image_name: the name to remap.
    """
    raw, compressed = _published(node, Image), _published(node, CompressedImage)
    waits_for_compressed = topic.endswith(_SUFFIX)
    base = topic.removesuffix(_SUFFIX)
    if waits_for_compressed and base in raw:
        return f"set image_transport to raw: {base} is published"
    if not waits_for_compressed and f"{base}{_SUFFIX}" in compressed:
        return f"set image_transport to compressed: {base}{_SUFFIX} is published"
    published = [name.removesuffix(_SUFFIX) for name in compressed] if waits_for_compressed else raw
    if not published:
        return f"remap `{image_name}` to the camera's topic; no image topic is on the graph"
    more = f" and {len(published) - _SHOWN} more" if len(published) > _SHOWN else ""
    return f"remap `{image_name}` to one of {', '.join(published[:_SHOWN])}{more}"


def _published(node: Node, message_type: type[Any]) -> list[str]:
    """Topics on which another node publishes that type; that somebody subscribes to it there is not enough."""
    wanted = type_name(message_type)
    own = {name for name, _ in node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace())}
    return sorted(
        name
        for name, types in node.get_topic_names_and_types()
        if wanted in types
        and name not in own
        and any(info.topic_type == wanted for info in node.get_publishers_info_by_topic(name))
    )
