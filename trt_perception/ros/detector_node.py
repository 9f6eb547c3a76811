"""The node `detector`: a lifecycle node around LivePipeline; configures and activates itself unless told not to."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import LabelInfo

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import require_trusted_paths
from trt_perception.control_budget import InferenceGovernor
from trt_perception.detector import Detector, WarmUp
from trt_perception.engine.prepare import ensure_engine
from trt_perception.errors import PerceptionError
from trt_perception.fallback_chain import FallbackPolicy, Opened
from trt_perception.live import LivePipeline
from trt_perception.live_frames import Batching
from trt_perception.models import DEMO_MODEL, load_model
from trt_perception.ros import qos
from trt_perception.ros.backend_supervisor import BackendSupervisor
from trt_perception.ros.camera_channel import CameraChannel, CameraMessage
from trt_perception.ros.detector_diagnostics import artifact_hash, inference_status
from trt_perception.ros.detector_parameters import TRUST_PARAMETERS, detector_parameters
from trt_perception.ros.diagnostics import DiagnosticsPublisher, Status
from trt_perception.ros.governor_diagnostics import governor_statuses
from trt_perception.ros.image_thread import ImageThread
from trt_perception.ros.input_diagnostics import InputDiagnostics
from trt_perception.ros.messages import label_info_message
from trt_perception.ros.parameters import backend_setting_specs, declare_parameters
from trt_perception.ros.quiet_collection import QuietCollector
from trt_perception.ros.real_time import ANY_CORE, RealTime, RealTimeSettings
from trt_perception.ros.run_node import run_node
from trt_perception.ros.serialized_results import require_known_layout
from trt_perception.trust import Trust
from trt_perception.types import Thresholds

# A change of one of these opens another detector; a change of a threshold does not.
_OPENS = ("model", "backends", "allow_fallback")
_SUPERVISION = {"max_consecutive_errors", "backend_retry_s", "warm_fallback", "inference_timeout_s"}
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
        self._stopped = False
        # Held while the detector that runs, or its thresholds, are replaced: by a parameter or by the fallback chain.
        self._changing = threading.RLock()
        # One transition or change of the detector at a time: services and the fallback chain ask on their own threads.
        self._transition = threading.RLock()
        self._supervisor = BackendSupervisor(self)
        self._supervised: dict[str, Any] = {}
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
        wait_ns = round(self._value("max_batch_wait_ms") * 1e6)
        self._batching = Batching(self._value("max_batch"), wait_ns)
        self._real_time = RealTime(self._real_time_settings())
        self._collector = QuietCollector()
        self._images: ImageThread | None = None
        self._governor = InferenceGovernor(self._value("max_inference_share"))
        self._apply_camera_parameters({})
        self._inputs = [InputDiagnostics(self, camera) for camera in self._cameras]
        self._labels = self.create_publisher(LabelInfo, "label_info", **qos.overridable(qos.LATCHED))
        self.create_service(SetBool, "~/enable", self._on_enable, callback_group=MutuallyExclusiveCallbackGroup())
        self.create_service(
            Trigger, "~/retry_backends", self._on_retry_backends, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._diagnostics = DiagnosticsPublisher(self, self._value("diagnostics_period_s"), self._statuses)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._after_set_parameters)

    # --- life cycle -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Configures and activates, unless autostart is off; a failure is logged and shown in /diagnostics."""
        try:
            if self._value("autostart") and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()
        except Exception:
            # The node is being destroyed under a transition that had begun before the signal came.
            if not self._stopped:
                raise

    def stop(self) -> None:
        """Ends inference and frees the backend, whatever the state."""
        with self._transition:
            self._stopped = True
            self._end_inference()
            self._close_detector()
            self._supervisor.close()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens the model; on failure the node stays unconfigured and /diagnostics says why."""
        return self._guarded(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Warms up, then subscribes to the cameras."""
        return self._guarded(lambda: self._activate(state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and stops the inference thread; the model stays loaded."""
        with self._transition:
            self._end_inference()
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model and takes the publishers away."""
        with self._transition:
            self._close_detector()
            self._problem = None
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
            with self._transition:
                if self._stopped:
                    return TransitionCallbackReturn.FAILURE
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
        require_known_layout()
        # Before the model is opened: the threads that its library makes inherit what is set here.
        self._real_time.apply()
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
        self._warm_up_or_fall_back(self._detector)
        self._announce(self._detector)
        super().on_activate(state)
        try:
            self._begin_inference(self._detector)
        except BaseException:
            self._end_inference()
            raise
        topics = ", ".join(camera.topic for camera in self._cameras)
        self.get_logger().info(f"active: listens on {topics}")

    def _begin_inference(self, detector: Detector) -> None:
        self._supervise()
        channels = [camera.pipeline_channel for camera in self._cameras]
        pipeline = LivePipeline(
            channels, detector, self._governor, self._supervisor, self._batching, self._collector.rest
        )
        pipeline.set_enabled(self._enabled)
        pipeline.start()
        self._pipeline = pipeline
        for diagnostics in self._inputs:
            diagnostics.start_again()
        self._images = ImageThread(self.context, self._images_failed)
        self._images.start([camera.subscribe(pipeline.offer) for camera in self._cameras])
        self._active = True
        self._settle()

    def _settle(self) -> None:
        """What has to be done when everything is loaded and every thread there is."""
        self._real_time.apply()
        self._collector.start()

    def _images_failed(self, error: Exception) -> None:
        """Ends the process, as an error in a callback of the executor's does."""

        def fail() -> None:
            raise error

        self.executor.create_task(fail)

    def _end_inference(self) -> None:
        self._active = False
        self._collector.stop()
        if self._images is not None:
            self._images.stop()
            self._images = None
        for camera in self._cameras:
            camera.unsubscribe()
        self._supervisor.stop()
        if self._pipeline is not None:
            self._pipeline.stop()
            self._pipeline = None

    def _close_detector(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._detector = None
        self._real_time.undo()

    # --- model and backend ------------------------------------------------------------------------------------

    def _open_detector(self, changed: dict[str, Any], index: int | None = None) -> Detector:
        """Opens what the parameters ask for, with `changed` in place of their present values.

        index: the backend at this place of the list alone; None: the first, with allow_fallback the first that opens.
        """
        settings = self._require_trusted_settings(changed)
        model = load_model(changed.get("model", self._value("model")), self._trust)
        backends = list(changed.get("backends", self._value("backends")))
        detector = Detector.open(
            model,
            backends if index is None else backends[index],
            allow_fallback=changed.get("allow_fallback", self._value("allow_fallback")),
            settings=settings,
        )
        detector.thresholds = self._thresholds(changed, model.thresholds)
        # Read here, where loading takes its time anyway, and not when /diagnostics are due.
        artifact_hash(detector.artifact)
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

    def _warm_up_or_fall_back(self, detector: Detector) -> None:
        """A backend that opens and then cannot run is one that cannot run: with allow_fallback the next one does."""
        try:
            self._warm_up = detector.warm_up(max_batch=self._max_batch(detector))
            return
        except PerceptionError as error:
            failure = error
        backends = self._value("backends")
        for index in range(detector.backend_index + 1, len(backends) if self._value("allow_fallback") else 0):
            try:
                opened = self._warmed_up(self._open_detector({}, index))
            except PerceptionError as error:
                self.report(f"{backends[index]} cannot run: {error}")
                continue
            opened.detector.backend_index = index
            opened.detector.explain_fallback(f"runs {backends[index]} instead of {backends[0]}: {failure}")
            self._detector, self._warm_up = opened.detector, opened.warm_up
            detector.close()
            return
        raise failure

    def _warmed_up(self, detector: Detector) -> Opened:
        try:
            return Opened(detector, detector.warm_up(max_batch=self._max_batch(detector)))
        except BaseException:
            detector.close()
            raise

    def _max_batch(self, detector: Detector) -> int:
        return self._batching.limit(len(self._cameras), detector.max_batch)

    def _switch_detector(self, changed: dict[str, Any]) -> None:
        """The new one opens and warms up before the old one stops; an error leaves the old one at work."""
        with self._transition:
            self._supervisor.stop()
            runs = self._supervised
            try:
                old = self._replace(self._warmed_up(self._open_detector(changed)))
                runs = {name: changed[name] for name in _OPENS if name in changed}
                if old is not None:
                    old.close()
            finally:
                if self._active:
                    self._supervise(runs)

    def _replace(self, opened: Opened) -> Detector | None:
        """Puts another detector to work between two frames and says so; returns the one before."""
        with self._changing:
            old, self._detector, self._warm_up = self._detector, opened.detector, opened.warm_up
            if self._pipeline is not None:
                self._pipeline.replace_detector(opened.detector)
        if self._active:
            self._settle()
        self._announce(opened.detector)
        return old

    # --- fallback (ChainHost) ---------------------------------------------------------------------------------

    def _supervise(self, changed: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Watches the backend that runs now and what it does; `changed` as in _open_detector."""
        assert self._detector is not None
        self._supervised = dict(changed)
        policy = FallbackPolicy(
            changed.get("allow_fallback", self._value("allow_fallback")),
            self._value("max_consecutive_errors"),
            self._value("backend_retry_s"),
            self._value("warm_fallback"),
        )
        self._supervisor.limit(self._value("inference_timeout_s"), self._warm_up)
        backends = list(changed.get("backends", self._value("backends")))
        self._supervisor.start(backends, self._detector.backend_index, policy)

    def open_backend(self, index: int) -> Opened:
        """Opens and warms up one backend of the list."""
        return self._warmed_up(self._open_detector(self._supervised, index))

    def install(self, opened: Opened, announcement: str) -> Detector:
        """The fallback chain has changed the backend."""
        self.get_logger().warning(announcement)
        with self._changing:
            assert self._detector is not None
            opened.detector.thresholds = self._detector.thresholds
            old = self._replace(opened)
        self._supervisor.limit(self._value("inference_timeout_s"), opened.warm_up)
        assert old is not None
        return old

    def report(self, message: str) -> None:
        """The fallback chain, or the watchdog, has something to say."""
        self.get_logger().warning(message)

    def gave_up(self, reason: str) -> None:
        """Inference fails and nothing else may run: the node becomes inactive, on a thread that may wait for that."""
        self.executor.create_task(self._deactivate_because, reason)

    def _deactivate_because(self, reason: str) -> None:
        problem = f"inactive, since {reason}; mend it and activate the node, or set allow_fallback and other backends"
        self.get_logger().error(problem)
        try:
            self.trigger_deactivate()
        except rclpy_implementation.RCLError as error:  # somebody else is changing the state
            self.get_logger().warning(f"could not deactivate: {error}")
        self._problem = problem

    # --- parameters and services ------------------------------------------------------------------------------

    def _real_time_settings(self) -> RealTimeSettings:
        cores = frozenset(self._value("cpu_affinity")) - {ANY_CORE}
        return RealTimeSettings(cores, self._value("scheduler_priority"), self._value("lock_memory"))

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
                with self._changing:
                    self._detector.thresholds = self._thresholds({}, self._detector.model.thresholds)
                self._publish_labels(self._detector)
        if names & {*_SUPERVISION, *_OPENS}:
            with self._transition:
                if self._active:
                    self._supervise()
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

    def _on_retry_backends(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._supervisor.retry()
        detector = self._detector if self._active else None
        response.success = detector is not None and detector.info.fallback_reason is None
        response.message = "the node is not active" if detector is None else _runs(detector)
        return response

    def _apply_camera_parameters(self, changed: dict[str, Any]) -> None:
        for camera in self._cameras:
            camera.max_image_age_ms = changed.get("max_image_age_ms", self._value("max_image_age_ms"))
            camera.image_timeout_s = changed.get("image_timeout_s", self._value("image_timeout_s"))
            camera.class_id_format = changed.get("class_id_format", self._value("class_id_format"))

    def _statuses(self) -> list[Status]:
        state = self._state_machine.current_state[1]
        statuses = [status.status(self._active) for status in self._inputs]
        values = {**self._supervisor.values(), **self._real_time.read_back()}
        if self._detector is not None and len(self._cameras) > 1:
            values["max_batch"] = self._max_batch(self._detector)
        inference = inference_status(
            self._detector, state, self._problem, self._warm_up, self._cameras, self._enabled, values
        )
        return [inference, *governor_statuses(self._governor), *statuses]


def _runs(detector: Detector) -> str:
    info = detector.info
    return f"{info.backend} on {info.device} runs" + (f"; {info.fallback_reason}" if info.fallback_reason else "")


def main() -> int:
    """Entry point of the executable detector_node."""
    return run_node(DetectorNode)


if __name__ == "__main__":
    sys.exit(main())
