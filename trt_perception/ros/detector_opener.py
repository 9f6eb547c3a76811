"""Opens the detector that the parameters ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trt_perception.backend_request import BackendRequest
from trt_perception.detector import Detector
from trt_perception.engine.prepare import ensure_engine
from trt_perception.models import load_model
from trt_perception.ros.detector_diagnostics import artifact_hash
from trt_perception.ros.detector_settings import AS_THEY_ARE, DetectorSettings
from trt_perception.ros.threshold_parameters import ThresholdParameters

# A change of one of these opens another detector; a change of a threshold does not.
OPENS = frozenset({"model", "backends", "allow_fallback"})


class DetectorOpener:
    """Reads model, backends, settings, trust and thresholds anew each time; `changed` as in DetectorSettings."""

    def __init__(self, settings: DetectorSettings, thresholds: ThresholdParameters) -> None:
        self._settings = settings
        self._thresholds = thresholds

    def backends(self, changed: Mapping[str, Any] = AS_THEY_ARE) -> list[str]:
        """The list of which the first is wanted."""
        return list(self._settings.value("backends", changed))

    def build_engines(self, inform: Callable[[str], object]) -> None:
        """Builds the TensorRT engines that are missing, which takes minutes; inform: takes what runs which engine."""
        model = load_model(self._settings.value("model"), self._settings.trust)
        self._settings.of_backends()
        cache = self._settings.value("tensorrt.cache_directory")
        for text in self.backends():
            engine = ensure_engine(model, BackendRequest.parse(text), cache=cache)
            if engine is not None:
                inform(f"{text} runs {engine}")

    def open(self, changed: Mapping[str, Any] = AS_THEY_ARE, index: int | None = None) -> Detector:
        """Raises PerceptionError when nothing can run.

        index: the backend at this place of the list alone; None: the first, with allow_fallback the first that opens.
        """
        settings = self._settings.of_backends(changed)
        model = load_model(self._settings.value("model", changed), self._settings.trust)
        backends = self.backends(changed)
        detector = Detector.open(
            model,
            backends if index is None else backends[index],
            allow_fallback=self._settings.value("allow_fallback", changed),
            settings=settings,
        )
        detector.thresholds = self._thresholds.in_force(model.thresholds, changed)
        # Read here, where loading takes its time anyway, and not when /diagnostics are due.
        artifact_hash(detector.artifact)
        return detector
