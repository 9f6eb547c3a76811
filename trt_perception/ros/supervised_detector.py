"""The detector that runs, and how another takes its place: by a parameter, or because its backend fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node

from trt_perception.detector import Detector, WarmUp
from trt_perception.errors import PerceptionError
from trt_perception.fallback_chain import Opened, close_or_report
from trt_perception.ros.backend_supervisor import BackendSupervisor
from trt_perception.ros.detector_announcement import DetectorAnnouncement
from trt_perception.ros.detector_opener import OPENS, DetectorOpener
from trt_perception.ros.detector_settings import AS_THEY_ARE, DetectorSettings
from trt_perception.ros.live_cameras import LiveCameras
from trt_perception.types import Thresholds


class SupervisedDetector:
    """Owns the detector between open() and close(), and the cameras' frames go through it between start() and stop().

    One call at a time, but for those of the fallback chain, whose host this is (ChainHost).
    """

    def __init__(
        self,
        node: Node,
        settings: DetectorSettings,
        opener: DetectorOpener,
        live: LiveCameras,
        give_up: Callable[[str], None],
    ) -> None:
        """give_up: takes the reason why inference fails and nothing else may run, on the chain's thread."""
        self._node = node
        self._settings = settings
        self._opener = opener
        self._live = live
        self._give_up = give_up
        self._announcement = DetectorAnnouncement(node)
        self.supervisor = BackendSupervisor(self)
        self.detector: Detector | None = None
        self.warm_up: WarmUp | None = None
        # Held while the detector that runs, or its thresholds, are replaced: by a parameter or by the fallback chain.
        self._changing = threading.RLock()
        self._supervised: dict[str, Any] = {}

    def open(self) -> Detector:
        """Opens what the parameters ask for; raises PerceptionError."""
        self.detector = self._opener.open()
        return self.detector

    def close(self) -> None:
        """Frees the detector; a second call does nothing."""
        if self.detector is not None:
            self.detector.close()
            self.detector = None

    def warm_up_or_fall_back(self) -> None:
        """A backend that opens and then cannot run is one that cannot run: with allow_fallback the next one does."""
        assert self.detector is not None
        try:
            self.warm_up = self.detector.warm_up(max_batch=self._live.max_batch(self.detector))
        except PerceptionError as error:
            self._fall_back_at_start(self.detector, error)
        self._announcement.announce(self.detector)

    def start(self) -> None:
        """Frames go through it, and it is watched; call stop() also when this raises."""
        assert self.detector is not None
        self.supervise()
        self._live.start(self.detector, self.supervisor)

    def stop(self) -> None:
        """The detector stays open; a second call does nothing."""
        self._live.stop_images()
        self.supervisor.stop()
        self._live.stop()

    def supervise(self, changed: Mapping[str, Any] = AS_THEY_ARE) -> None:
        """Watches the backend that runs now and what it does; `changed` as in DetectorSettings."""
        assert self.detector is not None
        self._supervised = dict(changed)
        policy = self._settings.fallback_policy(changed)
        self.supervisor.limit(self._settings.value("inference_timeout_s"), self.warm_up)
        self.supervisor.start(self._opener.backends(changed), self.detector.backend_index, policy)

    def switch(self, changed: Mapping[str, Any]) -> None:
        """The new one opens and warms up before the old one stops; an error leaves the old one at work."""
        self.supervisor.stop()
        runs = self._supervised
        try:
            old = self._replace(self._warmed_up(self._opener.open(changed)))
            runs = {name: changed[name] for name in OPENS if name in changed}
            if old is not None:
                old.close()
        finally:
            if self._live.active:
                self.supervise(runs)

    def set_thresholds(self, of_model: Callable[[Thresholds], Thresholds]) -> None:
        """of_model: from the thresholds of the model that runs to those that are to be in force."""
        with self._changing:
            assert self.detector is not None
            self.detector.thresholds = of_model(self.detector.model.thresholds)
        self._announcement.publish_labels(self.detector)

    def _fall_back_at_start(self, failed: Detector, failure: PerceptionError) -> None:
        backends = self._opener.backends()
        allowed = self._settings.value("allow_fallback")
        for index in range(failed.backend_index + 1, len(backends) if allowed else 0):
            try:
                opened = self._warmed_up(self._opener.open(index=index))
            except PerceptionError as error:
                self.report(f"{backends[index]} cannot run: {error}")
                continue
            opened.detector.backend_index = index
            opened.detector.explain_fallback(f"runs {backends[index]} instead of {backends[0]}: {failure}")
            self.detector, self.warm_up = opened.detector, opened.warm_up
            close_or_report(failed, self.report)
            return
        raise failure

    def _warmed_up(self, detector: Detector) -> Opened:
        try:
            return Opened(detector, detector.warm_up(max_batch=self._live.max_batch(detector)))
        except BaseException:
            detector.close()
            raise

    def _replace(self, opened: Opened) -> Detector | None:
        """Puts another detector to work between two frames and says so; returns the one before."""
        with self._changing:
            old, self.detector, self.warm_up = self.detector, opened.detector, opened.warm_up
            self._live.replace_detector(opened.detector)
        if self._live.active:
            try:
                self._live.settle()
            except PerceptionError as error:
                # It is at work already, and worth more than they are.
                self.report(f"runs without its real-time settings: {error}")
        self._announcement.announce(opened.detector)
        return old

    # --- ChainHost --------------------------------------------------------------------------------------------

    def open_backend(self, index: int) -> Opened:
        """Opens and warms up one backend of the list."""
        return self._warmed_up(self._opener.open(self._supervised, index))

    def install(self, opened: Opened, announcement: str) -> Detector:
        """The fallback chain has changed the backend."""
        self._node.get_logger().warning(announcement)
        with self._changing:
            assert self.detector is not None
            opened.detector.thresholds = self.detector.thresholds
            old = self._replace(opened)
        self.supervisor.limit(self._settings.value("inference_timeout_s"), opened.warm_up)
        assert old is not None
        return old

    def report(self, message: str) -> None:
        """The fallback chain, or the watchdog, has something to say."""
        self._node.get_logger().warning(message)

    def gave_up(self, reason: str) -> None:
        """The only backend that may run has failed."""
        self._give_up(reason)
