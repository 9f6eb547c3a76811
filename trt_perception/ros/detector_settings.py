"""What the detector's parameters ask for, in the types that the parts of the node take."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rclpy.node import Node

from trt_perception.backends import require_trusted_paths
from trt_perception.errors import PerceptionError
from trt_perception.fallback_chain import FallbackPolicy
from trt_perception.live_frames import Batching
from trt_perception.models import DEMO_MODEL, load_model
from trt_perception.ros.detector_parameters import TRUST_PARAMETERS, detector_parameters
from trt_perception.ros.parameters import backend_setting_specs, declare_parameters
from trt_perception.ros.real_time import ANY_CORE, RealTimeSettings
from trt_perception.trust import Trust
from trt_perception.types import Thresholds

AS_THEY_ARE: Mapping[str, Any] = MappingProxyType({})


class DetectorSettings:
    """Declares the node's parameters and reads them.

    `changed`, wherever it is taken: values by parameter name that stand in place of the present ones, since a parameter
    that is being set has its new value only after everybody has agreed to it.
    """

    def __init__(self, node: Node) -> None:
        """Raises PerceptionError, or rclpy's own exception, for a parameter that was given a wrong value."""
        self._node = node
        declare_parameters(node, TRUST_PARAMETERS)
        self.trust = Trust.of(self.value("require_checksum"), self.value("model_root"))
        specs = [*detector_parameters(self._thresholds_of_model()), *backend_setting_specs()]
        self._specs = {spec.name: spec for spec in specs}
        declare_parameters(node, specs)

    def value(self, name: str, changed: Mapping[str, Any] = AS_THEY_ARE) -> Any:
        """The value of one parameter."""
        return changed[name] if name in changed else self._node.get_parameter(name).value

    def was_given(self, name: str) -> bool:
        """True when the user set it on the command line or in a parameter file."""
        return name in self._node._parameter_overrides

    def problem_with(self, changed: Mapping[str, Any]) -> str | None:
        """Why these values cannot be, None when they can; types and ranges are rclpy's to check."""
        for name, value in changed.items():
            problem = self._specs[name].problem_with(value) if name in self._specs else None
            if problem is not None:
                return problem
        try:
            self.of_backends(changed)
        except PerceptionError as error:
            return str(error)
        return None

    def of_backends(self, changed: Mapping[str, Any] = AS_THEY_ARE) -> dict[str, dict[str, Any]]:
        """The settings of every backend; raises PerceptionError for a path that leads out of model_root."""
        settings: dict[str, dict[str, Any]] = {}
        for name in self._specs:
            backend, dot, setting = name.partition(".")
            if dot:
                settings.setdefault(backend, {})[setting] = self.value(name, changed)
        require_trusted_paths(settings, self.trust)
        return settings

    def fallback_policy(self, changed: Mapping[str, Any] = AS_THEY_ARE) -> FallbackPolicy:
        """When another backend runs."""
        return FallbackPolicy(
            self.value("allow_fallback", changed),
            self.value("max_consecutive_errors"),
            self.value("backend_retry_s"),
            self.value("warm_fallback"),
        )

    def batching(self) -> Batching:
        """How cameras share a run of the network."""
        return Batching(self.value("max_batch"), round(self.value("max_batch_wait_ms") * 1e6))

    def real_time(self) -> RealTimeSettings:
        """Cores, priority and memory of the process."""
        cores = frozenset(self.value("cpu_affinity"))
        if cores == {ANY_CORE}:
            cores = frozenset()
        return RealTimeSettings(cores, self.value("scheduler_priority"), self.value("lock_memory"))

    def _thresholds_of_model(self) -> Thresholds:
        """The thresholds of the model that will be loaded, for the parameters' defaults."""
        override = self._node._parameter_overrides.get("model")
        try:
            return load_model(str(override.value) if override else DEMO_MODEL, self.trust).thresholds
        except PerceptionError:
            return Thresholds()  # on_configure reports what is wrong with the model
