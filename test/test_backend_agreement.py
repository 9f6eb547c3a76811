"""Every backend finds the same in the same pictures, seen through the command that people use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from test.commands import trt_perception
from trt_perception.scenes import heldout_scenes

SCENES = 50
SEED = 11
MIN_IOU = 0.99
MAX_SCORE_DIFFERENCE = 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for index, scene in enumerate(heldout_scenes(SCENES, 640, 480, SEED)):
        good, data = cv2.imencode(".png", scene.image_bgr)
        assert good
        (folder / f"{index:02d}.png").write_bytes(data.tobytes())
    return folder


def found_by(folder: Path, backend: str) -> Any:
    done = trt_perception(["detect", folder, "--model", "digits", "--backend", backend, "--json"])
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["backend"]["requested"] == backend
    assert document["backend"]["device"] == "cpu"
    return document["images"]


def iou(a: list[float], b: list[float]) -> float:
    common = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_onnxruntime_and_torchscript_find_the_same(folder: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    first, second = found_by(folder, "onnxruntime:cpu"), found_by(folder, "torchscript:cpu")
    assert len(first) == len(second) == SCENES
    pairs = 0
    for a, b in zip(first, second, strict=True):
        assert a["name"] == b["name"]
        others = list(b["detections"])
        for box in a["detections"]:
            of_class = [o for o in others if o["class_id"] == box["class_id"]]
            partner = max(of_class, key=lambda o: iou(o["box_xyxy_px"], box["box_xyxy_px"]), default=None)
            assert partner is not None, (a["name"], box)
            others.remove(partner)
            assert iou(partner["box_xyxy_px"], box["box_xyxy_px"]) >= MIN_IOU, (a["name"], box, partner)
            assert abs(partner["score"] - box["score"]) <= MAX_SCORE_DIFFERENCE, (a["name"], box, partner)
            pairs += 1
        assert not others, (a["name"], others)
    assert pairs >= 3 * SCENES / 2  # there was something to agree on
