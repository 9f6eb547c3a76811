"""What runs while the detector node is active: cameras, the thread that takes images, the one that does inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode

from trt_perception.control_budget import InferenceGovernor
from trt_perception.detector import Detector
from trt_perception.live import InferenceObserver, LivePipeline
from trt_perception.ros.budget_caption import BudgetCaption
from trt_perception.ros.camera_channel import CameraChannel, CameraMessage
from trt_perception.ros.camera_names import checked_camera_names
from trt_perception.ros.detector_settings import AS_THEY_ARE, DetectorSettings
from trt_perception.ros.image_thread import ImageThread
from trt_perception.ros.input_diagnostics import InputDiagnostics
from trt_perception.ros.quiet_collection import QuietCollector
from trt_perception.ros.real_time import RealTime


class LiveCameras:
    """Images are taken and looked at between start() and stop()."""

    def __init__(self, node: LifecycleNode, settings: DetectorSettings) -> None:
        self._node = node
        self._settings = settings
        names = checked_camera_names(node, settings.value("camera_names"))
        transport = settings.value("image_transport")
        self._caption = BudgetCaption(node)
        self.cameras = [CameraChannel(node, f"{name}/" if name else "", transport, self._caption) for name in names]
        self._batching = settings.batching()
        self.real_time = RealTime(settings.real_time())
        self._collector = QuietCollector()
        self._images: ImageThread | None = None
        self._pipeline: LivePipeline[CameraMessage] | None = None
        self.governor = InferenceGovernor(settings.value("max_inference_share"))
        self.active = False
        self.enabled = True
        self.follow_parameters()
        self.inputs = [InputDiagnostics(node, camera) for camera in self.cameras]

    def start(self, detector: Detector, observer: InferenceObserver) -> None:
        """Call stop() also when this raises. The detector has been warmed up, and stays the caller's to close."""
        channels = [camera.pipeline_channel for camera in self.cameras]
        pipeline = LivePipeline(channels, detector, self.governor, observer, self._batching, self._collector.rest)
        pipeline.set_enabled(self.enabled)
        pipeline.start()
        self._pipeline = pipeline
        for diagnostics in self.inputs:
            diagnostics.start_again()
        self._images = ImageThread(self._node.context, self._images_failed)
        self._images.start([camera.subscribe(pipeline.offer) for camera in self.cameras])
        self.active = True
        self.settle()

    def stop_images(self) -> None:
        """Takes no more images; what was taken is still looked at. A second call does nothing."""
        self.active = False
        self._collector.stop()
        if self._images is not None:
            self._images.stop()
            self._images = None
        for camera in self.cameras:
            camera.unsubscribe()

    def stop(self) -> None:
        """Ends inference too; a second call does nothing."""
        self.stop_images()
        if self._pipeline is not None:
            self._pipeline.stop()
            self._pipeline = None

    def settle(self) -> None:
        """What has to be done when everything is loaded and every thread there is."""
        self.real_time.apply()
        self._collector.start()

    def set_enabled(self, enabled: bool) -> None:
        """Pauses or resumes inference, now or from the next start on; images are received all the same."""
        self.enabled = enabled
        if self._pipeline is not None:
            self._pipeline.set_enabled(enabled)

    def replace_detector(self, detector: Detector) -> None:
        """Puts another one to work between two frames; does nothing where none is at work."""
        if self._pipeline is not None:
            self._pipeline.replace_detector(detector)

    def max_batch(self, detector: Detector) -> int:
        """How many frames go through this detector together at most."""
        return self._batching.limit(len(self.cameras), detector.max_batch)

    def follow_parameters(self, changed: Mapping[str, Any] = AS_THEY_ARE) -> None:
        """Takes over what may change while it runs; `changed` as in DetectorSettings."""
        if "max_inference_share" in changed:
            self.governor.max_share = changed["max_inference_share"]
        self._caption.show(self._settings.value("annotate_latency", changed))
        for camera in self.cameras:
            camera.max_image_age_ms = self._settings.value("max_image_age_ms", changed)
            camera.image_timeout_s = self._settings.value("image_timeout_s", changed)
            camera.class_id_format = self._settings.value("class_id_format", changed)

    def _images_failed(self, error: Exception) -> None:
        """Ends the process, as an error in a callback of the executor's does."""

        def fail() -> None:
            raise error

        self._node.executor.create_task(fail)
