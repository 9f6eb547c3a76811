"""One camera of the detector: its topics, and the way of each frame from message to message."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pal_statistics_msgs.msg import Statistics
from rclpy.event_handler import QoSMessageLostInfo, QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_policy_name_from_kind
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from vision_msgs.msg import Detection2DArray

from trt_perception.annotate import annotate
from trt_perception.errors import PerceptionError
from trt_perception.latency import latency_values
from trt_perception.live_frames import Channel, FrameCounts, Processed, Received
from trt_perception.model_file import ModelFile
from trt_perception.ros import qos
from trt_perception.ros.budget_caption import BudgetCaption
from trt_perception.ros.image_thread import TakenElsewhere
from trt_perception.ros.input_link import InputLink
from trt_perception.ros.messages import ClassTexts, image_to_message, statistics_message
from trt_perception.ros.serialized_images import SERIALIZED, SerializedImage
from trt_perception.ros.serialized_results import detections_bytes
from trt_perception.statistics import SampleWindow

CameraMessage: TypeAlias = SerializedImage

# Enough for the p99 to mean something, and half a minute at 30 Hz.
_WINDOW_FRAMES = 1000


class CameraChannel:
    """Owns one camera's publishers (from configure on) and its subscription (while active)."""

    def __init__(self, node: LifecycleNode, prefix: str, transport: str, caption: BudgetCaption) -> None:
        self._node = node
        self._caption = caption
        self._prefix = prefix
        # The name that a remapping is for.
        self.image_name = f"{prefix}image"
        # rclpy remaps whatever it is given: it gets a name to which no remapping was applied, or the result of one that
        # no other applies to. `topic` is what comes of it.
        self.subscribed_name = self.image_name if transport == "raw" else _compressed_name(node, self.image_name)
        self.topic = node.resolve_topic_name(self.subscribed_name)
        self.message_type = ImageMessage if transport == "raw" else CompressedImage
        self.pipeline_channel: Channel[CameraMessage] = Channel(
            prefix.rstrip("/") or "image", lambda message: message.frame(), self._is_fresh, self._deliver, self._report
        )
        self.link = InputLink()
        # When the newest image came, or the wait for the first one began (time.monotonic_ns).
        self.newest_ns = 0
        self.windows: dict[str, SampleWindow] = {}
        self.last_error: str | None = None
        self.max_image_age_ms = 0.0
        self.image_timeout_s = 0.0
        # Of the newest image whose turn came while max_image_age_ms was set.
        self.age_ms = 0.0
        self.class_id_format = "name"
        self._texts: tuple[ModelFile, str, ClassTexts] | None = None
        self._subscription: Subscription | None = None
        # detections, inference_latency, annotated_image; those that there are.
        self._publishers: list[Any] = []

    @property
    def counts(self) -> FrameCounts:
        """What became of this camera's frames since activation."""
        return self.pipeline_channel.counts

    def create_publishers(self) -> None:
        """detections, inference_latency and annotated_image: silent until the node is active."""
        for kind, name, profile in (
            (Detection2DArray, "detections", qos.RESULTS),
            (Statistics, "inference_latency", qos.RESULTS),
            (ImageMessage, "annotated_image", qos.IMAGE_PUBLISHER),
        ):
            create = self._node.create_lifecycle_publisher
            self._publishers.append(create(kind, f"{self._prefix}{name}", **qos.overridable(profile)))
        self._detections, self._latency, self._annotated = self._publishers

    def subscribers(self) -> dict[str, int]:
        """How many subscribers the results have, by topic; empty before configure."""
        try:
            return {publisher.topic_name: publisher.get_subscription_count() for publisher in self._publishers[:2]}
        except rclpy_implementation.InvalidHandle:  # destroyed meanwhile, on another thread
            return {}

    def destroy_publishers(self) -> None:
        """Undoes create_publishers, also where that stopped half-way."""
        publishers, self._publishers = self._publishers, []
        for publisher in publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def subscribe(self, offer: Callable[[Channel[CameraMessage], CameraMessage], None]) -> Subscription:
        """What an ImageThread is to take from, which then calls offer; every figure of this camera starts again."""
        self.link = InputLink()
        self.windows = {}
        self.last_error = None
        self.newest_ns = time.monotonic_ns()

        serialized = SERIALIZED[self.message_type]

        def on_image(data: bytes, info: Mapping[str, int]) -> None:
            self.newest_ns = time.monotonic_ns()
            offer(self.pipeline_channel, serialized(data))
            self.link.arrived(info.get("publication_sequence_number"), self._node.count_publishers(self.topic))

        self._subscription = self._node.create_subscription(
            self.message_type,
            self.subscribed_name,
            on_image,
            raw=True,
            callback_group=TakenElsewhere(),
            event_callbacks=SubscriptionEventCallbacks(
                message_lost=self._on_lost, incompatible_qos=self._on_incompatible
            ),
            **qos.overridable(qos.IMAGE_SUBSCRIPTION),
        )
        return self._subscription

    def unsubscribe(self) -> None:
        """Destroys the subscription, which nobody takes from any more; a second call does nothing."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _on_lost(self, event: QoSMessageLostInfo) -> None:
        self.link.lost_event(event.total_count_change)

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        self.link.incompatible_policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self._node.get_logger().warning(self.incompatibility())

    def incompatibility(self) -> str:
        """Why a publisher is not heard, and what to do; for when link.incompatible_policy is set."""
        policy = self.link.incompatible_policy
        return (
            f"a publisher of {self.topic} offers a {policy} that this subscription does not take; set the parameter "
            f"qos_overrides.{self.topic}.subscription.{policy} back to best_effort, or make the publisher reliable"
        )

    def _is_fresh(self, frame: Received[CameraMessage]) -> bool:
        if self.max_image_age_ms <= 0:
            return True
        stamp_ns = frame.message.header.stamp_ns
        self.age_ms = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e6
        return stamp_ns == 0 or self.age_ms <= self.max_image_age_ms

    def _deliver(self, frame: Processed[CameraMessage], counts: FrameCounts) -> None:
        header = frame.message.header
        start_ns = time.monotonic_ns()
        detections = frame.result.detections
        self._detections.publish(detections_bytes(detections, header, self._class_texts(frame.model).__getitem__))
        published_ns = time.monotonic_ns()
        values = latency_values(
            frame,
            counts,
            publish_ns=published_ns - start_ns,
            published_ns=published_ns,
            stamp_ns=header.stamp_ns,
            clock_offset_ns=self._node.get_clock().now().nanoseconds - time.monotonic_ns(),
        )
        self._latency.publish(statistics_message(header.message(), values))
        for name, value in values.items():
            self.windows.setdefault(name, SampleWindow(_WINDOW_FRAMES)).add(value)
        if self._annotated.get_subscription_count() > 0:
            drawn = annotate(frame.image(), detections, frame.model, self._caption.text(values["total_ms"]))
            self._annotated.publish(image_to_message(drawn, "bgr8", header.message()))

    def _class_texts(self, model: ModelFile) -> ClassTexts:
        if self._texts is None or self._texts[:2] != (model, self.class_id_format):
            self._texts = (model, self.class_id_format, ClassTexts(model, self.class_id_format))
        return self._texts[2]

    def _report(self, error: PerceptionError) -> None:
        self.last_error = str(error)
        self._node.get_logger().error(f"{self.topic}: {error}", throttle_duration_sec=5.0)


def _compressed_name(node: LifecycleNode, image_name: str) -> str:
    """The topic of compressed images: `/compressed` behind the images' topic, for which the remapping of `image` holds.

    Raises PerceptionError where that was remapped and the result would be remapped once more.
    """
    images = node.resolve_topic_name(image_name)
    name = f"{images}/compressed"
    remapped = node.resolve_topic_name(name)
    if remapped != name and images != node.resolve_topic_name(image_name, only_expand=True):
        raise PerceptionError(
            f"`{image_name}` is remapped to {images}, and {name} to {remapped}; a topic is remapped once: remap "
            f"`{image_name}` alone, to the topic of the camera's images without /compressed"
        )
    return name
