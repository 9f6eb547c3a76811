"""config/detector.yaml has every parameter of both nodes, with the default that the nodes have."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2")

from trt_perception.resources import share_directory
from trt_perception.ros.budget_parameters import PARAMETERS
from trt_perception.ros.detector_parameters import TRUST_PARAMETERS, detector_parameters
from trt_perception.ros.parameters import ParameterSpec, backend_setting_specs
from trt_perception.types import Thresholds

FILE = share_directory() / "config" / "detector.yaml"
TEXT = FILE.read_text(encoding="utf-8")
# They follow the model file, or an empty list cannot be written: an example stands behind a #.
COMMENTED = {"score_threshold", "iou_threshold", "max_detections", "camera_names", "cpu_affinity", "model_root"}


def given(node: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(TEXT)[f"/**/{node}"]["ros__parameters"]
    return values


def defaults(specs: list[ParameterSpec]) -> dict[str, Any]:
    values = {s.name: list(s.default) if isinstance(s.default, tuple) else s.default for s in specs}
    return {name: value for name, value in values.items() if name not in COMMENTED}


def test_the_detectors_parameters_and_defaults() -> None:
    specs = [*detector_parameters(Thresholds()), *TRUST_PARAMETERS, *backend_setting_specs()]
    shipped = [spec for spec in specs if not spec.name.startswith("fake.")]
    assert given("detector") == defaults(shipped)
    assert {spec.name for spec in specs} >= COMMENTED
    for name in COMMENTED:
        assert re.search(rf"^    # {name}: ", TEXT, re.MULTILINE), name


def test_the_monitors_parameters_and_defaults() -> None:
    assert given("budget_monitor") == defaults(PARAMETERS)
