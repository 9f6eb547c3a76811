"""Runs one backend under its library's own profiler."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import backend_class
from trt_perception.backends.base import BackendInfo
from trt_perception.benchmark.layers import LayerTime, layer_times
from trt_perception.benchmark.pictures import Pictures
from trt_perception.detector import Detector
from trt_perception.errors import BackendError

# The setting of a backend that names the file for its profile.
_SETTING = "profile_to"


@dataclass(frozen=True)
class Profile:
    """layers: slowest first; trace: what the library wrote, for chrome://tracing or Perfetto."""

    info: BackendInfo
    layers: tuple[LayerTime, ...]
    trace: Any


def profile(model: str, request: str, pictures: Pictures, *, warm_up: int, iterations: int) -> Profile:
    """Detects in warm_up + iterations pictures; the layers' times are of the latter.

    Raises PerceptionError, also for a backend without a profiler.
    """
    name = BackendRequest.parse(request).name
    if _SETTING not in {entry.name for entry in fields(backend_class(name).Settings)}:
        raise BackendError(
            f"{name} has no setting {_SETTING!r}, so its layers cannot be measured here; use its library's own profiler"
        )
    with tempfile.TemporaryDirectory(prefix="trt_perception_profile_") as folder:
        path = Path(folder) / "trace.json"
        with Detector.open(model, request, settings={name: {_SETTING: str(path)}}) as detector:
            info = detector.info
            for index in range(warm_up + iterations):
                detector.detect(pictures.pixels[index % len(pictures.pixels)])
        trace = json.loads(path.read_text(encoding="utf-8"))
    return Profile(info, tuple(layer_times(name, trace, warm_up)), trace)
