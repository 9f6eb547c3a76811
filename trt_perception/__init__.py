"""Object detection that robots can trust inside a control loop: any backend, every stage timed.

    import cv2
    from trt_perception import Detector

    with Detector.open("digits", "onnxruntime:cpu") as detector:
        result = detector.detect(cv2.imread("photo.png"))
        print(result.detections.boxes_xyxy, result.times.durations_ms())

The names below are loaded when they are first used, and a backend's library when the backend is opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trt_perception.backend_request import BackendRequest
    from trt_perception.backends.base import BackendInfo
    from trt_perception.detector import Detector, WarmUp
    from trt_perception.errors import (
        BackendError,
        BackendUnavailableError,
        DeviceMismatchError,
        ImageError,
        ModelFileError,
        OutputError,
        PerceptionError,
    )
    from trt_perception.model_file import InputSpec, ModelFile
    from trt_perception.models import load_model
    from trt_perception.types import Detections, FrameResult, Image, StageTimes, Thresholds

__all__ = [
    "BackendError",
    "BackendInfo",
    "BackendRequest",
    "BackendUnavailableError",
    "Detections",
    "Detector",
    "DeviceMismatchError",
    "FrameResult",
    "Image",
    "ImageError",
    "InputSpec",
    "ModelFile",
    "ModelFileError",
    "OutputError",
    "PerceptionError",
    "StageTimes",
    "Thresholds",
    "WarmUp",
    "load_model",
]

_NAMES_BY_MODULE = {
    "backend_request": ("BackendRequest",),
    "backends.base": ("BackendInfo",),
    "detector": ("Detector", "WarmUp"),
    "errors": (
        "BackendError",
        "BackendUnavailableError",
        "DeviceMismatchError",
        "ImageError",
        "ModelFileError",
        "OutputError",
        "PerceptionError",
    ),
    "model_file": ("InputSpec", "ModelFile"),
    "models": ("load_model",),
    "types": ("Detections", "FrameResult", "Image", "StageTimes", "Thresholds"),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    """PEP 562: loads a public name on first use and keeps it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
