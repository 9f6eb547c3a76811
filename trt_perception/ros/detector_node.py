"""The node `detector`: a lifecycle node around LivePipeline; configures and activates itself unless told not to."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool
from vision_msgs.msg import LabelInfo

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import require_trusted_paths
from trt_perception.control_budget import InferenceGovernor
from trt_perception.detector import Detector, WarmUp
from trt_perception.engine.prepare import ensure_engine
from trt_perception.errors import PerceptionError
from trt_perception.live import LivePipeline
from trt_perception.models import DEMO_MODEL, load_model
from trt_perception.ros import qos
from trt_perception.ros.camera_channel import CameraChannel, CameraMessage
from trt_perception.ros.detector_diagnostics import inference_status
from trt_perception.ros.detector_parameters import TRUST_PARAMETERS, detector_parameters
from trt_perception.ros.diagnostics import DiagnosticsPublisher, Status
from trt_perception.ros.governor_diagnostics import governor_statuses
from trt_perception.ros.input_diagnostics import InputDiagnostics
from trt_perception.ros.messages import label_info_message
from trt_perception.ros.parameters import backend_setting_specs, declare_parameters
from trt_perception.ros.run_node import run_node
from trt_perception.trust import Trust
from trt_perception.types import Thresholds

# A change of one of these opens another detector; a change of a threshold does not.
_OPENS = ("model", "backends", "allow_fallback")
_THRESHOLDS = {"score_threshold": "score", "iou_threshold": "iou", "max_detections": "max_detections"}


class DetectorNode(LifecycleNode):
    """Subscribes to images, publishes detections and latency; see config/detector.yaml for every parameter."""

    def __init__(self, **options: Any) -> None:
        super().__init__("detector", **options)
        self._detector: Detector | None = None
        self._pipeline: LivePipeline[CameraMessage] | None = None
        self._warm_up: WarmUp | None = None
        self._problem: str | None = None
        self._enabled = True
        self._active = False
        declare_parameters(self, TRUST_PARAMETERS)
        self._trust = Trust.of(self._value("require_checksum"), self._value("model_root"))
        self._specs = {s.name: s for s in [*detector_parameters(self._model_thresholds()), *backend_setting_specs()]}
        declare_parameters(self, self._specs.values())
        # Thresholds that the user did not give follow the model file, also when the model changes.
        self._follow_model = {name for name in _THRESHOLDS if name not in self._parameter_overrides}
        self._following = False
        names = self._value("camera_names") or [""]
        transport = self._value("image_transport")
        self._cameras = [CameraChannel(self, f"{name}/" if name else "", transport) for name in names]
        self._governor = InferenceGovernor(self._value("max_inference_share"))
        self._apply_camera_parameters({})
        self._inputs = [InputDiagnostics(self, camera) for camera in self._cameras]
        self._labels = self.create_publisher(LabelInfo, "label_info", **qos.overridable(qos.LATCHED))
        self.create_service(SetBool, "~/enable", self._on_enable, callback_group=MutuallyExclusiveCallbackGroup())
        self._diagnostics = DiagnosticsPublisher(self, self._value("diagnostics_period_s"), self._statuses)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._after_set_parameters)

    # --- life cycle -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Configures and activates, unless autostart is off; a failure is logged and shown in /diagnostics."""
        if self._value("autostart") and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self) -> None:
        """Ends inference and frees the backend, whatever the state."""
        self._end_inference()
        self._close_detector()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens the model; on failure the node stays unconfigured and /diagnostics says why."""
        return self._guarded(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Warms up, then subscribes to the cameras."""
        return self._guarded(lambda: self._activate(state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and stops the inference thread; the model stays loaded."""
        self._end_inference()
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model and takes the publishers away."""
        self._close_detector()
        for camera in self._cameras:
            camera.destroy_publishers()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state: everything ends."""
        self.stop()
        return TransitionCallbackReturn.SUCCESS

    def _guarded(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        """rclpy swallows what a transition raises: log it and fail the transition instead."""
        try:
            step()
        except PerceptionError as error:
            self._problem = str(error)
        # Such as rclpy's RuntimeError for a qos_overrides parameter whose value is no policy.
        except Exception as error:
            self._problem = f"unexpected {type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc())
        else:
            self._problem = None
            return TransitionCallbackReturn.SUCCESS
        self.get_logger().error(self._problem)
        return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        if self._value("build_engine"):
            self._build_engines()
        self._detector = self._open_detector({})
        self._show_model_thresholds(self._detector.model.thresholds)
        for camera in self._cameras:
            camera.create_publishers()

    def _build_engines(self) -> None:
        """Builds the TensorRT engines that are missing: only here, where no image waits for minutes."""
        model = load_model(self._value("model"), self._trust)
        self._require_trusted_settings({})
        cache = self._value("tensorrt.cache_directory")
        for text in self._value("backends"):
            engine = ensure_engine(model, BackendRequest.parse(text), cache=cache)
            if engine is not None:
                self.get_logger().info(f"{text} runs {engine}")

    def _activate(self, state: LifecycleState) -> None:
        assert self._detector is not None
        self._warm_up = self._detector.warm_up()
        self._announce(self._detector)
        super().on_activate(state)
        pipeline = LivePipeline([camera.pipeline_channel for camera in self._cameras], self._detector, self._governor)
        pipeline.set_enabled(self._enabled)
        pipeline.start()
        self._pipeline = pipeline
        for camera, diagnostics in zip(self._cameras, self._inputs, strict=True):
            diagnostics.start_again()
            camera.subscribe(pipeline.offer)
        self._active = True
        topics = ", ".join(camera.topic for camera in self._cameras)
        self.get_logger().info(f"active: listens on {topics}")

    def _end_inference(self) -> None:
        self._active = False
        for camera in self._cameras:
            camera.unsubscribe()
        if self._pipeline is not None:
            self._pipeline.stop()
            self._pipeline = None

    def _close_detector(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._detector = None

    # --- model and backend ------------------------------------------------------------------------------------

    def _open_detector(self, changed: dict[str, Any]) -> Detector:
        """Opens what the parameters ask for, with `changed` in place of their present values."""
        settings = self._require_trusted_settings(changed)
        model = load_model(changed.get("model", self._value("model")), self._trust)
        detector = Detector.open(
            model,
            list(changed.get("backends", self._value("backends"))),
            allow_fallback=changed.get("allow_fallback", self._value("allow_fallback")),
            settings=settings,
        )
        detector.thresholds = self._thresholds(changed, model.thresholds)
        return detector

    def _require_trusted_settings(self, changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The settings of every backend; raises PerceptionError for a path that leads out of model_root."""
        settings: dict[str, dict[str, Any]] = {}
        for name in self._specs:
            backend, dot, setting = name.partition(".")
            if dot:
                settings.setdefault(backend, {})[setting] = changed.get(name, self._value(name))
        require_trusted_paths(settings, self._trust)
        return settings

    def _thresholds(self, changed: dict[str, Any], of_model: Thresholds) -> Thresholds:
        """The user's thresholds where given, the model's otherwise."""
        chosen: dict[str, Any] = {}
        for name, field in _THRESHOLDS.items():
            follows = name in self._follow_model and name not in changed
            chosen[field] = getattr(of_model, field) if follows else changed.get(name, self._value(name))
        return replace(of_model, **chosen)

    def _show_model_thresholds(self, of_model: Thresholds) -> None:
        """Lets `ros2 param get` show the thresholds in force where they follow the model."""
        values = [Parameter(name, value=getattr(of_model, _THRESHOLDS[name])) for name in sorted(self._follow_model)]
        self._following = True
        try:
            self.set_parameters(values)
        finally:
            self._following = False

    def _announce(self, detector: Detector) -> None:
        """Says in the log and on label_info what runs now."""
        info = detector.info
        message = f"model {detector.model.name} on {info.backend}, {info.device} ({info.device_name}), {info.precision}"
        self.get_logger().info(message)
        self.get_logger().info(f"head {detector.recognised.name}: {detector.recognised.reason}")
        for note in info.notes:
            self.get_logger().warning(note)
        if info.fallback_reason is not None:
            self.get_logger().warning(f"fallback: {info.fallback_reason}")
        self._publish_labels(detector)

    def _switch_detector(self, changed: dict[str, Any]) -> None:
        """The new one opens and warms up before the old one stops; an error leaves the old one at work."""
        new = self._open_detector(changed)
        try:
            warm_up = new.warm_up()
        except PerceptionError:
            new.close()
            raise
        old, self._detector, self._warm_up = self._detector, new, warm_up
        if self._pipeline is not None:
            self._pipeline.replace_detector(new)
        if old is not None:
            old.close()
        self._announce(new)

    # --- parameters and services ------------------------------------------------------------------------------

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _model_thresholds(self) -> Thresholds:
        """The thresholds of the model that will be loaded, for the parameters' defaults."""
        override = self._parameter_overrides.get("model")
        try:
            return load_model(str(override.value) if override else DEMO_MODEL, self._trust).thresholds
        except PerceptionError:
            return Thresholds()  # on_configure reports what is wrong with the model

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters}
        for name, value in changed.items():
            problem = self._specs[name].problem_with(value) if name in self._specs else None
            if problem is not None:
                return SetParametersResult(successful=False, reason=problem)
        try:
            self._require_trusted_settings(changed)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._detector is not None and any(name in changed for name in _OPENS):
            try:
                self._switch_detector(changed)
            except PerceptionError as error:
                self.get_logger().error(f"keeps what runs: {error}")
                return SetParametersResult(successful=False, reason=f"keeps what runs: {error}")
        return SetParametersResult(successful=True)

    def _after_set_parameters(self, parameters: Sequence[Parameter]) -> None:
        names = {p.name for p in parameters}
        if not self._following:
            self._follow_model -= names
        if self._detector is not None and not self._following:
            if "model" in names:
                self._show_model_thresholds(self._detector.model.thresholds)
            if names & set(_THRESHOLDS):
                self._detector.thresholds = self._thresholds({}, self._detector.model.thresholds)
                self._publish_labels(self._detector)
        if "max_inference_share" in names:
            self._governor.max_share = self._value("max_inference_share")
        self._apply_camera_parameters({p.name: p.value for p in parameters})

    def _publish_labels(self, detector: Detector) -> None:
        stamp = self.get_clock().now().to_msg()
        self._labels.publish(label_info_message(detector.model, detector.thresholds.score, stamp))

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if self._pipeline is not None:
            self._pipeline.set_enabled(request.data)
        response.success = True
        response.message = "inference runs" if request.data else "inference is paused, images are still received"
        return response

    def _apply_camera_parameters(self, changed: dict[str, Any]) -> None:
        for camera in self._cameras:
            camera.max_image_age_ms = changed.get("max_image_age_ms", self._value("max_image_age_ms"))
            camera.class_id_format = changed.get("class_id_format", self._value("class_id_format"))

    def _statuses(self) -> list[Status]:
        state = self._state_machine.current_state[1]
        statuses = [status.status(self._active) for status in self._inputs]
        inference = inference_status(self._detector, state, self._problem, self._warm_up, self._cameras, self._enabled)
        return [inference, *governor_statuses(self._governor), *statuses]


def main() -> int:
    """Entry point of the executable detector_node."""
    return run_node(DetectorNode)


if __name__ == "__main__":
    sys.exit(main())
