"""What the detector says of itself in /diagnostics: one status for each camera, one for inference."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from trt_perception.backends import backend_class
from trt_perception.detector import Detector, WarmUp
from trt_perception.model_file import ModelFile
from trt_perception.ros.camera_channel import CameraChannel
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Status

# A share of frames lost in the middleware above which the input is no longer well.
_LOST_SHARE_WARN = 0.01
_RATE_WINDOW_S = 3.0


@dataclass(frozen=True)
class _Reading:
    """Counters of one camera at one time."""

    at_ns: int
    received: int
    processed: int
    lost: int
    malformed: int
    failed: int


class InputDiagnostics:
    """Tells `nobody publishes` from `it is published but does not arrive` from `it arrives but is no picture`."""

    def __init__(self, node: Node, camera: CameraChannel) -> None:
        self._node = node
        self._camera = camera
        self._readings: list[_Reading] = []
        self.start_again()

    def start_again(self) -> None:
        """Call it when the node becomes active: every count starts at zero then."""
        self._readings = [_Reading(time.monotonic_ns(), 0, 0, 0, 0, 0)]

    def status(self, active: bool) -> Status:
        """The camera's status now; call it once a period."""
        camera = self._camera
        counts = camera.counts
        what = f"input {camera.pipeline_channel.name}"
        now = _Reading(
            time.monotonic_ns(), counts.received, counts.processed, camera.link.lost, counts.malformed, counts.failed
        )
        self._readings.append(now)
        while len(self._readings) > 2 and now.at_ns - self._readings[1].at_ns >= _RATE_WINDOW_S * 1e9:
            self._readings.pop(0)
        before = self._readings[0]
        elapsed_s = max((now.at_ns - before.at_ns) / 1e9, 1e-9)
        arriving_hz = (now.received - before.received) / elapsed_s
        lost_hz = (now.lost - before.lost) / elapsed_s
        values: dict[str, object] = {
            "topic": camera.topic,
            "arriving_hz": arriving_hz,
            "processed_hz": (now.processed - before.processed) / elapsed_s,
            "lost_hz": lost_hz,
            "received_count": counts.received,
            "processed_count": counts.processed,
            "dropped_count": counts.dropped,
            "superseded_count": counts.superseded,
            "stale_count": counts.stale,
            "skipped_count": counts.skipped,
            "paused_count": counts.paused,
            "malformed_count": counts.malformed,
            "failed_count": counts.failed,
            "lost_count": camera.link.lost,
            **{f"subscribers of {topic}": count for topic, count in camera.subscribers().items()},
        }
        if not active:
            return Status(what, OK, "the node is not active, images are not received", values)
        if now.malformed > before.malformed:
            message = f"images arrive that cannot be used: {camera.last_error}"
            return Status(what, ERROR, message, values)
        if now.failed > before.failed:
            return Status(what, ERROR, f"inference fails on images: {camera.last_error}", values)
        if lost_hz > _LOST_SHARE_WARN * (arriving_hz + lost_hz):
            message = (
                f"the publisher sends {arriving_hz + lost_hz:.1f} Hz, {arriving_hz:.1f} Hz arrive: the rest is lost "
                "in the middleware; give Fast DDS a larger shared-memory segment in every process "
                "(config/fastdds_shm.xml), or make the publisher and this subscription reliable"
            )
            return Status(what, WARN, message, values)
        if now.received == before.received and elapsed_s >= 1.0:
            return Status(what, ERROR, self._why_nothing_arrives(), values)
        return Status(what, OK, f"{arriving_hz:.1f} Hz arrive", values)

    def _why_nothing_arrives(self) -> str:
        camera = self._camera
        publishers = self._node.get_publishers_info_by_topic(camera.topic)
        wanted = f"{camera.message_type.__module__.split('.')[0]}/msg/{camera.message_type.__name__}"
        if not publishers:
            return f"nobody publishes {camera.topic}; start the camera, or remap `image` to its topic"
        types = sorted({info.topic_type for info in publishers})
        if wanted not in types:
            return (
                f"{camera.topic} is published as {', '.join(types)}, not as {wanted}; remap `image` to the camera's "
                "image topic, or set image_transport"
            )
        if camera.link.incompatible_policy is not None:
            return (
                f"the publisher of {camera.topic} offers an incompatible {camera.link.incompatible_policy}; set "
                f"qos_overrides.{camera.topic}.subscription.reliability to best_effort, or make it reliable"
            )
        reliable = any(info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers)
        hint = "" if reliable else "; large best-effort images are lost without config/fastdds_shm.xml in every process"
        return f"{camera.topic} has {len(publishers)} publisher(s) but no image arrives{hint}"


def inference_status(
    detector: Detector | None,
    state: str,
    problem: str | None,
    warm_up: WarmUp | None,
    cameras: Sequence[CameraChannel],
    enabled: bool,
) -> Status:
    """What runs, on which device, how fast; ERROR with the reason when nothing can run."""
    if detector is None:
        if problem is not None:
            return Status("inference", ERROR, problem, {"lifecycle_state": state})
        return Status("inference", OK, f"the node is {state}; no model is loaded", {"lifecycle_state": state})
    info = detector.info
    values: dict[str, object] = {
        "lifecycle_state": state,
        "model": detector.model.name,
        "model_sha256": model_hash(detector.model, info.backend),
        "backend": info.backend,
        "requested": info.requested,
        "device": info.device,
        "device_name": info.device_name,
        "provider": info.provider,
        "precision": info.precision,
        "library": info.library,
        "enabled": enabled,
    }
    if warm_up is not None:
        values["warm_up_frames_ms"] = ", ".join(f"{ns / 1e6:.1f}" for ns in warm_up.frame_ns)
    for camera in cameras:
        prefix = f"{camera.pipeline_channel.name}." if len(cameras) > 1 else ""
        for name, window in list(camera.windows.items()):
            summary = window.summary()
            if summary is not None and name.endswith("_ms"):
                values[f"{prefix}{name}"] = (
                    f"p50 {summary.p50:.3f}, p95 {summary.p95:.3f}, p99 {summary.p99:.3f}, max {summary.max:.3f}"
                )
    device = f"{info.device} ({info.device_name})"
    if problem is not None:
        return Status("inference", ERROR, problem, values, device)
    if info.fallback_reason is not None:
        return Status("inference", WARN, f"fallback: {info.fallback_reason}", values, device)
    paused = "" if enabled else ", paused by ~/enable"
    return Status("inference", OK, f"{info.backend} on {info.device}, {info.precision}{paused}", values, device)


def model_hash(model: ModelFile, backend: str) -> str:
    """The artifact's hash as the model file gives it, `not given` otherwise."""
    artifact = model.artifacts.get(backend_class(backend).choose_artifact(model.artifacts))
    return (artifact.sha256 if artifact else None) or "not given"
