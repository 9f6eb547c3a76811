"""config/detector.rviz and config/foxglove_layout.json: well-formed, and about what the nodes really publish."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from trt_perception.resources import share_directory

# The types that Foxglove's panels have in a layout, and the setting that names each one's topic.
TOPIC_OF_PANEL = {
    "Image": lambda settings: [settings["imageMode"]["imageTopic"]],
    "RawMessages": lambda settings: [settings["topicPath"]],
    "Plot": lambda settings: [path["value"] for path in settings["paths"]],
    "DiagnosticSummary": lambda settings: [settings["topicToRender"]],
}
# Foxglove's message path: a topic, the fields below it, and a filter over the elements of an array.
STATISTIC = re.compile(r'(/\w+)\.statistics\[:\]\{name=="(\w+)"\}\.value')


def layout() -> dict[str, Any]:
    text = (share_directory() / "config" / "foxglove_layout.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def rviz() -> dict[str, Any]:
    text = (share_directory() / "config" / "detector.rviz").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def leaves(node: Any) -> Iterator[str]:
    """The panels of a layout's tree, each split into a first and a second part."""
    if isinstance(node, str):
        yield node
        return
    assert node["direction"] in ("row", "column")
    assert 0 < node["splitPercentage"] < 100
    yield from leaves(node["first"])
    yield from leaves(node["second"])


def paths() -> list[str]:
    """Every topic or message path of Foxglove's layout."""
    panels = layout()["configById"].items()
    return [path for name, settings in panels for path in TOPIC_OF_PANEL[name.split("!")[0]](settings)]


def test_every_panel_of_the_layout_has_settings_and_a_place() -> None:
    assert Counter(leaves(layout()["layout"])) == Counter(layout()["configById"].keys())
    assert {name.split("!")[0] for name in layout()["configById"]} == set(TOPIC_OF_PANEL)
    titles = [settings["foxglovePanelTitle"] for settings in layout()["configById"].values()]
    assert len(set(titles)) == len(titles)


def test_rviz_shows_images_with_a_quality_of_service_that_connects() -> None:
    manager = rviz()["Visualization Manager"]
    displays = {display["Topic"]["Value"]: display for display in manager["Displays"]}
    assert {display["Class"] for display in displays.values()} == {"rviz_default_plugins/Image"}
    assert displays["/annotated_image"]["Enabled"] is True
    # Drivers may be best effort; what the detector publishes is reliable.
    assert displays["/camera/image_raw"]["Topic"]["Reliability Policy"] == "Best Effort"
    assert {display["Topic"]["Durability Policy"] for display in displays.values()} == {"Volatile"}
    names = {display["Name"] for display in displays.values()}
    expanded = {entry.strip("/")[:-1] for entry in rviz()["Panels"][0]["Property Tree Widget"]["Expanded"]}
    assert expanded == names


def test_the_topics_and_figures_are_those_that_the_nodes_publish() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed", exc_type=ImportError)
    from pal_statistics_msgs.msg import Statistics

    from test.ros.graph import Graph, grey, values_of

    with Graph() as graph:
        graph.start("detector_node")
        graph.start("budget_monitor_node")
        mailboxes = {name: graph.listen(Statistics, name) for name in ("/inference_latency", "/control_budget")}
        camera = graph.camera()

        def budget_is_known() -> bool:
            stamp = graph.node.get_clock().now().to_msg()
            camera.send(grey(64, 48), stamp=stamp)
            newest = mailboxes["/control_budget"].messages[-1:]
            return any("inference_share_last_percent" in values_of(message) for message in newest)

        graph.wait_until(budget_is_known, "a share of the control period", pause_s=0.05)
        figures = {name: set(values_of(mailbox.messages[-1])) for name, mailbox in mailboxes.items()}
        published = {name for name, _ in graph.node.get_topic_names_and_types() if graph.node.count_publishers(name)}

    for path in paths():
        statistic = STATISTIC.fullmatch(path)
        topic = statistic[1] if statistic else path
        assert topic in published, path
        assert statistic is None or statistic[2] in figures[topic], path
    assert "/annotated_image" in published
