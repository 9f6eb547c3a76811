"""The thresholds among the detector's parameters: the user's where given, the model file's otherwise."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from trt_perception.ros.detector_settings import AS_THEY_ARE, DetectorSettings
from trt_perception.types import Thresholds

# Parameter → field of Thresholds.
_FIELDS = {"score_threshold": "score", "iou_threshold": "iou", "max_detections": "max_detections"}
THRESHOLDS = frozenset(_FIELDS)


class ThresholdParameters:
    """Thresholds that the user did not give follow the model file, also when the model changes."""

    def __init__(self, node: Node, settings: DetectorSettings) -> None:
        self._node = node
        self._settings = settings
        self._follow_model = {name for name in THRESHOLDS if not settings.was_given(name)}
        # The thread that show() is on: others may set parameters at the same time.
        self._shown_by: int | None = None

    def in_force(self, of_model: Thresholds, changed: Mapping[str, Any] = AS_THEY_ARE) -> Thresholds:
        """What counts as a detection; `changed` as in DetectorSettings."""
        chosen: dict[str, Any] = {}
        for name, field in _FIELDS.items():
            follows = name in self._follow_model and name not in changed
            chosen[field] = getattr(of_model, field) if follows else self._settings.value(name, changed)
        return replace(of_model, **chosen)

    def show(self, of_model: Thresholds) -> None:
        """Lets `ros2 param get` show the thresholds in force where they follow the model."""
        values = [Parameter(name, value=getattr(of_model, _FIELDS[name])) for name in sorted(self._follow_model)]
        self._shown_by = threading.get_ident()
        try:
            self._node.set_parameters(values)
        finally:
            self._shown_by = None

    def taken_over(self, names: Set[str]) -> bool:
        """Parameters of these names have been set; False when it was show() that set them, not the user."""
        if self._shown_by == threading.get_ident():
            return False
        self._follow_model -= names
        return True
