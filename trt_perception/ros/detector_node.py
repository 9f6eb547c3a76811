"""The node `detector`: lifecycle, parameters and services; configures and activates itself unless told not to."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from trt_perception.errors import PerceptionError
from trt_perception.ros import qos
from trt_perception.ros.detector_announcement import what_runs
from trt_perception.ros.detector_diagnostics import inference_status
from trt_perception.ros.detector_opener import OPENS, DetectorOpener
from trt_perception.ros.detector_settings import DetectorSettings
from trt_perception.ros.diagnostics import DiagnosticsPublisher, Status
from trt_perception.ros.governor_diagnostics import governor_statuses
from trt_perception.ros.live_cameras import LiveCameras
from trt_perception.ros.run_node import run_node
from trt_perception.ros.serialized_results import require_known_layout
from trt_perception.ros.supervised_detector import SupervisedDetector
from trt_perception.ros.threshold_parameters import THRESHOLDS, ThresholdParameters

_SUPERVISION = {"max_consecutive_errors", "backend_retry_s", "warm_fallback", "inference_timeout_s"}


class DetectorNode(LifecycleNode):
    """Subscribes to images, publishes detections and latency; see config/detector.yaml for every parameter."""

    def __init__(self, **options: Any) -> None:
        super().__init__("detector", **options)
        self._problem: str | None = None
        self._stopped = False
        # One transition or change of the detector at a time: services and the fallback chain ask on their own threads.
        self._transition = threading.RLock()
        self._settings = DetectorSettings(self)
        self._thresholds = ThresholdParameters(self, self._settings)
        self._opener = DetectorOpener(self._settings, self._thresholds)
        self._live = LiveCameras(self, self._settings)
        self._running = SupervisedDetector(self, self._settings, self._opener, self._live, self._gave_up)
        self.create_service(SetBool, "~/enable", self._on_enable, callback_group=MutuallyExclusiveCallbackGroup())
        self.create_service(
            Trigger, "~/retry_backends", self._on_retry_backends, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._diagnostics = DiagnosticsPublisher(self, self._settings.value("diagnostics_period_s"), self._statuses)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._after_set_parameters)

    # --- life cycle -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Configures and activates, unless autostart is off; a failure is logged and shown in /diagnostics."""
        try:
            if self._settings.value("autostart") and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()
        except Exception:
            # The node is being destroyed under a transition that had begun before the signal came.
            if not self._stopped:
                raise

    def stop(self) -> None:
        """Ends inference and frees the backend, whatever the state."""
        with self._transition:
            self._stopped = True
            self._running.stop()
            self._close_detector()
            self._running.supervisor.close()

    def destroy_node(self) -> None:
        """Leaves the graph at once; rclpy's own way keeps the state machine, and with it the node, to the end."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens the model; on failure the node stays unconfigured and /diagnostics says why."""
        return self._guarded(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Warms up, then subscribes to the cameras."""
        return self._guarded(lambda: self._activate(state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and stops the inference thread; the model stays loaded."""
        with self._transition:
            self._running.stop()
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model and takes the publishers away."""
        with self._transition:
            self._undo_configure()
            self._problem = None
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
        except Exception as error:
            self._problem = qos.refused_override(error)
            if self._problem is None:
                self._problem = f"unexpected {type(error).__name__}: {error}"
                self.get_logger().error(traceback.format_exc())
        else:
            self._problem = None
            return TransitionCallbackReturn.SUCCESS
        self.get_logger().error(self._problem)
        return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        try:
            self._open_and_publish()
        except BaseException:
            self._undo_configure()
            raise

    def _undo_configure(self) -> None:
        self._close_detector()
        for camera in self._live.cameras:
            camera.destroy_publishers()

    def _open_and_publish(self) -> None:
        require_known_layout()
        # Before the model is opened: the threads that its library makes inherit what is set here.
        self._live.real_time.apply()
        # Only here, where no image waits for minutes.
        if self._settings.value("build_engine"):
            self._opener.build_engines(self.get_logger().info)
        detector = self._running.open()
        self._thresholds.show(detector.model.thresholds)
        for camera in self._live.cameras:
            camera.create_publishers()

    def _activate(self, state: LifecycleState) -> None:
        self._running.warm_up_or_fall_back()
        super().on_activate(state)
        try:
            self._running.start()
        except BaseException:
            self._running.stop()
            raise
        topics = ", ".join(camera.topic for camera in self._live.cameras)
        self.get_logger().info(f"active: listens on {topics}")

    def _close_detector(self) -> None:
        self._running.close()
        self._live.real_time.undo()

    def _gave_up(self, reason: str) -> None:
        """The node becomes inactive, on a thread that may wait for that: the one that calls may not."""
        self.executor.create_task(self._deactivate_because, reason)

    def _deactivate_because(self, reason: str) -> None:
        problem = f"inactive, since {reason}; mend it and activate the node, or set allow_fallback and other backends"
        self.get_logger().error(problem)
        try:
            self.trigger_deactivate()
        except rclpy_implementation.RCLError as error:  # somebody else is changing the state
            self.get_logger().warning(f"could not deactivate: {error}")
        self._problem = problem

    # --- parameters -------------------------------------------------------------------------------------------

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters}
        problem = self._settings.problem_with(changed)
        if problem is not None:
            return SetParametersResult(successful=False, reason=problem)
        if OPENS & changed.keys():
            try:
                # Waits for a model that is being loaded, which is still the one before.
                with self._transition:
                    if self._running.detector is not None:
                        self._running.switch(changed)
            except PerceptionError as error:
                self.get_logger().error(f"keeps what runs: {error}")
                return SetParametersResult(successful=False, reason=f"keeps what runs: {error}")
        return SetParametersResult(successful=True)

    def _after_set_parameters(self, parameters: Sequence[Parameter]) -> None:
        changed = {p.name: p.value for p in parameters}
        names = changed.keys()
        if self._thresholds.taken_over(names) and names & (THRESHOLDS | {"model"}):
            with self._transition:
                detector = self._running.detector
                if detector is not None and "model" in names:
                    self._thresholds.show(detector.model.thresholds)
                if detector is not None and THRESHOLDS & names:
                    self._running.set_thresholds(self._thresholds.in_force)
        if names & (_SUPERVISION | OPENS):
            with self._transition:
                if self._live.active:
                    self._running.supervise()
        self._live.follow_parameters(changed)

    # --- services and diagnostics -----------------------------------------------------------------------------

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._live.set_enabled(request.data)
        response.success = True
        response.message = "inference runs" if request.data else "inference is paused, images are still received"
        return response

    def _on_retry_backends(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._running.supervisor.retry()
        detector = self._running.detector if self._live.active else None
        response.success = detector is not None and detector.info.fallback_reason is None
        response.message = "the node is not active" if detector is None else what_runs(detector)
        return response

    def _statuses(self) -> list[Status]:
        live, detector = self._live, self._running.detector
        state = self._state_machine.current_state[1]
        statuses = [status.status(live.active) for status in live.inputs]
        values = {**self._running.supervisor.values(), **live.real_time.read_back()}
        if detector is not None and len(live.cameras) > 1:
            values["max_batch"] = live.max_batch(detector)
        warm_up = self._running.warm_up
        inference = inference_status(detector, state, self._problem, warm_up, live.cameras, live.enabled, values)
        return [inference, *governor_statuses(live.governor), *statuses]


def main() -> int:
    """Entry point of the executable detector_node."""
    return run_node(DetectorNode)


if __name__ == "__main__":
    sys.exit(main())
