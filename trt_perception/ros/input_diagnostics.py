"""What the detector says of a camera in /diagnostics: which images come, which do not, and why."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from trt_perception.ros.camera_channel import CameraChannel
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Status
from trt_perception.ros.image_topics import advice_for, type_name

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
    stale: int


class InputDiagnostics:
    """Tells `nobody publishes` from `it is published but does not arrive` from `it arrives but is no picture`."""

    def __init__(self, node: Node, camera: CameraChannel) -> None:
        self._node = node
        self._camera = camera
        self._readings: list[_Reading] = []
        self.start_again()

    def start_again(self) -> None:
        """Call it when the node becomes active: every count starts at zero then."""
        self._readings = [_Reading(time.monotonic_ns(), 0, 0, 0, 0, 0, 0)]

    def status(self, active: bool) -> Status:
        """The camera's status now; call it once a period."""
        camera = self._camera
        counts = camera.counts
        what = f"input {camera.pipeline_channel.name}"
        now = _Reading(
            time.monotonic_ns(),
            counts.received,
            counts.processed,
            camera.link.lost,
            counts.malformed,
            counts.failed,
            counts.stale,
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
        if now.at_ns - camera.newest_ns >= camera.image_timeout_s * 1e9:
            return Status(what, ERROR, self._why_nothing_arrives(), values)
        if now.malformed > before.malformed:
            which = (
                "images arrive, but none can be used" if now.processed == before.processed else "some images are bad"
            )
            return Status(what, ERROR, f"{which}: {camera.last_error}", values)
        if now.failed > before.failed:
            return Status(what, ERROR, f"inference fails on images: {camera.last_error}", values)
        if now.stale > before.stale and now.processed == before.processed:
            message = (
                f"images arrive, but all are older than max_image_age_ms allows: the newest was {camera.age_ms:.0f} ms "
                f"old, {camera.max_image_age_ms:.0f} ms are allowed; compare the clocks of the camera and of this "
                "machine, or raise max_image_age_ms"
            )
            return Status(what, ERROR, message, values)
        if lost_hz > _LOST_SHARE_WARN * (arriving_hz + lost_hz):
            message = (
                f"the publisher sends {arriving_hz + lost_hz:.1f} Hz, {arriving_hz:.1f} Hz arrive: the rest is lost "
                "in the middleware; give Fast DDS a larger shared-memory segment in every process "
                "(config/fastdds_shm.xml), or make the publisher and this subscription reliable"
            )
            return Status(what, WARN, message, values)
        arriving = f"{arriving_hz:.1f} Hz arrive" if now.received else f"waits for the first image of {camera.topic}"
        return Status(what, OK, arriving, values)

    def _why_nothing_arrives(self) -> str:
        camera = self._camera
        # rclpy remaps here, too.
        publishers = self._node.get_publishers_info_by_topic(camera.subscribed_name)
        wanted = type_name(camera.message_type)
        if not publishers:
            return f"nobody publishes {camera.topic}; start the camera, or {self._advice()}"
        types = sorted({info.topic_type for info in publishers})
        if wanted not in types:
            return f"{camera.topic} is published as {', '.join(types)}, not as {wanted}; {self._advice()}"
        if camera.link.incompatible_policy is not None:
            return camera.incompatibility()
        # By default this subscription is best effort, so that a reliable camera's images get lost as well.
        me = self._node.get_name(), self._node.get_namespace()
        readers = self._node.get_subscriptions_info_by_topic(camera.subscribed_name)
        own = [info for info in readers if (info.node_name, info.node_namespace) == me]
        reliable = all(i.qos_profile.reliability == ReliabilityPolicy.RELIABLE for i in (*publishers, *own))
        hint = "" if reliable else "; if they are large, they are lost without config/fastdds_shm.xml in every process"
        return f"{camera.topic} has {len(publishers)} publisher(s) but no image arrives{hint}"

    def _advice(self) -> str:
        return advice_for(self._node, self._camera.topic, self._camera.image_name)
