from __future__ import annotations

import json
import textwrap

import pytest
from ament_index_python.packages import get_package_share_directory

from test.setup.processes import private_domain, result, started
from tools.setup.layout import MESSAGE_PACKAGES, this_checkout

# What a ROS distribution's own packages (Jazzy and Kilted alike) announce on the wire.
DISTRIBUTION_HASHES = {
    "vision_msgs/msg/Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "pal_statistics_msgs/msg/Statistics": "RIHS01_41f6fad7ef98ef8302d89fca17658d0e0b6922116bc01732a925e5c7339fd842",
}

PUBLISHER = textwrap.dedent(
    """
    import time
    import rclpy
    from pal_statistics_msgs.msg import Statistic, Statistics
    from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

    rclpy.init()
    node = rclpy.create_node("publisher")
    found = Detection2D(id="track 7")
    found.bbox.center.position.x = 12.25
    found.bbox.size_y = 40.5
    guess = ObjectHypothesisWithPose()
    guess.hypothesis.class_id = "tasse à café"
    guess.hypothesis.score = 0.875
    found.results.append(guess)
    detections = Detection2DArray(detections=[found, Detection2D()])
    detections.header.frame_id = "camera"
    messages = {
        "detections": detections,
        "latency": Statistics(statistics=[Statistic(name="total_ms", value=6.5)]),
        "labels": LabelInfo(class_map=[VisionClass(class_id=65535, class_name="cup")], threshold=0.25),
    }
    publishers = [(node.create_publisher(type(message), name, 10), message) for name, message in messages.items()]
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        for publisher, message in publishers:
            publisher.publish(message)
        time.sleep(0.1)
    """
)

SUBSCRIBER = textwrap.dedent(
    """
    import json
    import time
    import rclpy
    from pal_statistics_msgs.msg import Statistics
    from vision_msgs.msg import Detection2DArray, LabelInfo

    rclpy.init()
    node = rclpy.create_node("subscriber")
    got = {}
    for kind, name in ((Detection2DArray, "detections"), (Statistics, "latency"), (LabelInfo, "labels")):
        node.create_subscription(kind, name, lambda message, name=name: got.setdefault(name, message), 10)
    deadline = time.monotonic() + 40
    while len(got) < 3 and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.2)
    first, second = got["detections"].detections
    hashes = {}
    for name in got:
        info = node.get_publishers_info_by_topic(name)[0]
        hashes[info.topic_type] = str(info.topic_type_hash)
    print(json.dumps({
        "frame_id": got["detections"].header.frame_id,
        "class_id": first.results[0].hypothesis.class_id,
        "score": first.results[0].hypothesis.score,
        "x": first.bbox.center.position.x,
        "size_y": first.bbox.size_y,
        "id": first.id,
        "results of an empty detection": len(second.results),
        "statistic": [(s.name, s.value) for s in got["latency"].statistics],
        "label": [(c.class_id, c.class_name) for c in got["labels"].class_map],
        "threshold": got["labels"].threshold,
        "hashes": hashes,
    }))
    node.destroy_node()
    rclpy.shutdown()
    """
)


def test_generated_messages_travel_between_processes_with_the_types_of_a_distribution() -> None:
    variables = private_domain()
    with started(PUBLISHER, variables=variables), started(SUBSCRIBER, variables=variables) as subscriber:
        got = result(subscriber)
    hashes = got.pop("hashes")
    assert got == {
        "frame_id": "camera",
        "class_id": "tasse à café",
        "score": 0.875,
        "x": 12.25,
        "size_y": 40.5,
        "id": "track 7",
        "results of an empty detection": 0,
        "statistic": [["total_ms", 6.5]],
        "label": [[65535, "cup"]],
        "threshold": 0.25,
    }
    assert {name: hashes[name] for name in DISTRIBUTION_HASHES} == DISTRIBUTION_HASHES


@pytest.mark.parametrize("type_name", sorted(DISTRIBUTION_HASHES))
def test_installed_type_descriptions_have_the_hashes_of_a_distribution(type_name: str) -> None:
    description = json.loads((this_checkout().venv / "share" / f"{type_name}.json").read_text(encoding="utf-8"))
    hashes = {entry["type_name"]: entry["hash_string"] for entry in description["type_hashes"]}
    assert hashes[type_name] == DISTRIBUTION_HASHES[type_name]


@pytest.mark.parametrize("package", MESSAGE_PACKAGES)
def test_message_packages_are_in_the_package_index(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(this_checkout().venv))
    share = this_checkout().venv / "share" / package
    assert share.samefile(get_package_share_directory(package))
    assert (share / "package.xml").is_file()


def test_interfaces_are_hidden_from_colcon() -> None:
    assert (this_checkout().interfaces / "COLCON_IGNORE").is_file()
