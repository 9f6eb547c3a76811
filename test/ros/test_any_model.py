"""The detector node with networks that nobody described: no model file, and boxes in the camera's own pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from vision_msgs.msg import Detection2DArray, LabelInfo

from test.blob_network import (
    HEIGHT_PX,
    NAMES,
    WIDTH_PX,
    as_rows,
    paint,
    placements,
    write_classifier,
    write_onnx,
)
from test.ros.graph import Graph
from trt_perception.ros import qos

SIZES = [(640, 480), (1280, 720), (300, 500), (1000, 260)]


def detections(graph: Graph, pictures: list[Any]) -> list[Any]:
    """What the node publishes for each picture."""
    camera = graph.camera()
    mailbox = graph.listen(Detection2DArray, "detections")
    camera.wait_for_subscriber()
    answers = []
    for number, picture in enumerate(pictures):
        # The first may come before the node has found this subscriber.
        for attempt in range(10):
            stamp = Time(sec=number + 1, nanosec=attempt)
            camera.send(picture, stamp=stamp)
            try:
                answers.append(mailbox.wait_for(_stamped(stamp), timeout_s=3.0))
            except AssertionError:
                continue
            break
    return answers


def _stamped(stamp: Any) -> Callable[[Any], bool]:
    return lambda message: bool(message.header.stamp == stamp)


def test_the_node_runs_a_bare_network_of_an_odd_shape(tmp_path: Path) -> None:
    path = tmp_path / "blobs.onnx"
    write_onnx(path, "yolov8", {"names": dict(enumerate(NAMES))})
    with Graph() as graph:
        labels = graph.listen(LabelInfo, "label_info", qos.LATCHED)
        node = graph.start("detector_node", "-p", f"model:={path}", "-p", "score_threshold:=0.5")
        answers = detections(graph, [paint(*size, placements(*size)) for size in SIZES])
        assert [(c.class_id, c.class_name) for c in labels.wait_for().class_map] == list(enumerate(NAMES))
        assert "head yolov8: 7 rows for 4 + 3 classes" in node.log()
    assert len(answers) == len(SIZES)
    for (width, height), answer in zip(SIZES, answers, strict=True):
        found = {d.results[0].hypothesis.class_id: d.bbox for d in answer.detections}
        placed = placements(width, height)
        assert set(found) == set(placed)
        boxes = np.array(
            [
                [
                    found[name].center.position.x - found[name].size_x / 2,
                    found[name].center.position.y - found[name].size_y / 2,
                    found[name].center.position.x + found[name].size_x / 2,
                    found[name].center.position.y + found[name].size_y / 2,
                ]
                for name in placed
            ]
        )
        scale = min(WIDTH_PX / width, HEIGHT_PX / height)
        np.testing.assert_allclose(boxes, as_rows(placed), atol=1.5 / scale)


def test_a_classifier_is_one_detection_with_several_results(tmp_path: Path) -> None:
    path = tmp_path / "colours.onnx"
    write_classifier(path, {"names": dict(enumerate(NAMES)), "task": "classify"})
    with Graph() as graph:
        graph.start("detector_node", "-p", f"model:={path}")
        (answer,) = detections(graph, [paint(640, 480, {"green": (0, 0, 640, 480)})])
    (found,) = answer.detections
    assert (found.bbox.center.position.x, found.bbox.center.position.y) == (320.0, 240.0)
    assert (found.bbox.size_x, found.bbox.size_y) == (640.0, 480.0)
    assert found.results[0].hypothesis.class_id == "green"
    assert {r.hypothesis.class_id for r in found.results} == set(NAMES)
    scores = [r.hypothesis.score for r in found.results]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1.0, abs=1e-5)
