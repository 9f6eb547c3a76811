"""The detector as a process of its own, over real DDS."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from pal_statistics_msgs.msg import Statistics
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray, LabelInfo

from test.logged_process import LoggedProcess
from test.ros.graph import Graph, Mailbox, grey, values_of
from trt_perception.ros import qos

FAKE = ("-p", "backends:=[fake]")
DEEP = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class Running:
    """A graph with one active detector and mailboxes on its topics."""

    def __init__(self, graph: Graph, node: LoggedProcess, profile: QoSProfile = qos.IMAGE_PUBLISHER) -> None:
        self.graph = graph
        self.node = node
        self.camera = graph.camera(profile=profile)
        self.detections = graph.listen(Detection2DArray, "detections")
        self.latency = graph.listen(Statistics, "inference_latency")
        self.diagnostics = graph.listen(DiagnosticArray, "/diagnostics")

    def wait_until_heard(self) -> None:
        """What a publisher sends before it has found its subscriber is lost, so wait for both."""
        topics = [f"subscribers of {self.detections.topic}", f"subscribers of {self.latency.topic}"]

        def heard(status: Any) -> bool:
            values = {v.key: v.value for v in status.values}
            return all(int(values.get(topic, 0)) > 0 for topic in topics)

        self.status("input image", heard, timeout_s=30.0)

    def send(self, pixels: Any = None, **header: Any) -> Any:
        """Sends one picture and returns the detections for it."""
        stamp = Time(sec=100, nanosec=time.monotonic_ns() % 10**9)
        self.camera.send(grey() if pixels is None else pixels, stamp=stamp, **header)
        return self.detections.wait_for(lambda m: m.header.stamp == stamp)

    def status(self, ending: str, wanted: Any = lambda _: True, timeout_s: float = 10.0) -> Any:
        """The first status of that name, from now on, that is wanted."""
        self.diagnostics.clear()

        def pick(message: Any) -> Any:
            return next((s for s in message.status if s.name.endswith(ending) and wanted(s)), None)

        return pick(self.diagnostics.wait_for(lambda m: pick(m) is not None, timeout_s))


def entry(status: Any, key: str) -> str:
    return str({v.key: v.value for v in status.values}[key])


def start(graph: Graph, *arguments: str, profile: QoSProfile = qos.IMAGE_PUBLISHER) -> Running:
    node = graph.start("detector_node", "-p", "diagnostics_period_s:=0.1", *arguments)
    running = Running(graph, node, profile)
    running.camera.wait_for_subscriber()
    running.wait_until_heard()
    return running


@pytest.fixture(scope="module")
def shared_graph() -> Iterator[Running]:
    with Graph() as graph:
        yield start(graph, *FAKE)


@pytest.fixture
def running(shared_graph: Running) -> Iterator[Running]:
    """One detector for all tests that leave it as they found it."""
    yield shared_graph
    shared_graph.graph.set_parameters("detector", score_threshold=0.45, class_id_format="name", fake__busy_ms=0.0)
    assert shared_graph.graph.set_parameters("detector", backends=["fake"])[0].successful
    for mailbox in (shared_graph.detections, shared_graph.latency):
        mailbox.clear()


def test_detections_and_latency_carry_the_images_header(running: Running) -> None:
    stamp = Time(sec=1234, nanosec=56789)
    running.camera.send(grey(), stamp=stamp, frame_id="front_camera_optical")
    detections = running.detections.wait_for(lambda m: m.header.stamp == stamp)
    latency = running.latency.wait_for(lambda m: m.header.stamp == stamp)
    assert detections.header.frame_id == latency.header.frame_id == "front_camera_optical"
    assert detections.detections[0].header == detections.header


def test_boxes_are_in_the_pixels_of_the_image_as_received(running: Running) -> None:
    # The fake network sees a 64x32 box in the middle of 320x320; the 640x480 image was halved for it.
    (found,) = running.send(grey(640, 480)).detections
    assert (found.bbox.center.position.x, found.bbox.center.position.y) == pytest.approx((320, 240))
    assert (found.bbox.size_x, found.bbox.size_y) == pytest.approx((128, 64))
    assert found.id == ""
    (hypothesis,) = found.results
    assert (hypothesis.hypothesis.class_id, hypothesis.hypothesis.score) == ("7", pytest.approx(0.9))


def test_latency_has_every_stage_that_exists_in_milliseconds(running: Running) -> None:
    running.graph.set_parameters("detector", fake__busy_ms=20.0, backends=["fake"])
    running.latency.clear()
    now = running.graph.node.get_clock().now()
    running.camera.send(grey(), stamp=now.to_msg())
    values = values_of(running.latency.wait_for())
    assert list(values) == [
        "queue_wait_ms",
        "decode_ms",
        "preprocess_ms",
        "inference_ms",
        "postprocess_ms",
        "publish_ms",
        "total_ms",
        "image_age_ms",
        "inference_start_offset_ms",
        "detection_count",
        "dropped_frames_count",
        "batch_size_count",
        "backend_index",
    ]
    assert values["inference_ms"] >= 20.0
    stages = ("queue_wait_ms", "decode_ms", "preprocess_ms", "inference_ms", "postprocess_ms", "publish_ms")
    assert sum(values[s] for s in stages) <= values["total_ms"] <= values["image_age_ms"]
    assert 0 < values["inference_start_offset_ms"] <= values["image_age_ms"] - values["inference_ms"]
    assert values["detection_count"] == 1


def test_without_a_stamp_there_is_no_age_but_an_offset(running: Running) -> None:
    running.camera.send(grey(), stamp=Time())
    values = values_of(running.latency.wait_for(lambda m: m.header.stamp == Time()))
    assert "image_age_ms" not in values
    assert values["inference_start_offset_ms"] > 1e9  # the clock's own time: start = stamp + offset


def test_a_stamp_in_the_future_gives_a_negative_offset_and_no_age(running: Running) -> None:
    stamp = Time(sec=running.graph.node.get_clock().now().to_msg().sec + 1000)
    running.camera.send(grey(), stamp=stamp)
    values = values_of(running.latency.wait_for(lambda m: m.header.stamp == stamp))
    assert "image_age_ms" not in values
    assert values["inference_start_offset_ms"] < -900_000


def test_nothing_found_is_published_too(running: Running) -> None:
    running.graph.set_parameters("detector", score_threshold=0.95)
    assert list(running.send().detections) == []


def test_class_id_as_index(running: Running) -> None:
    running.graph.set_parameters("detector", class_id_format="index")
    assert running.send().detections[0].results[0].hypothesis.class_id == "7"
    (result,) = running.graph.set_parameters("detector", class_id_format="colour")
    assert not result.successful
    assert "expected one of name, index" in result.reason


def test_parameters_out_of_range_or_of_another_type_are_refused(running: Running) -> None:
    for values in ({"score_threshold": 1.5}, {"score_threshold": "high"}, {"max_detections": 0}, {"autostart": False}):
        (result,) = running.graph.set_parameters("detector", **values)
        assert not result.successful
        assert result.reason
    assert running.graph.get_parameter("detector", "score_threshold") == 0.45


def test_every_parameter_is_described(running: Running) -> None:
    names = ("model", "backends", "score_threshold", "max_detections", "max_image_age_ms", "onnxruntime.execution")
    descriptors = running.graph.describe("detector", *names)
    assert all(d.description for d in descriptors)
    threshold = descriptors[2].floating_point_range[0]
    assert (threshold.from_value, threshold.to_value) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"encoding": "32FC7"}, "encoding"),
        ({"width": 0}, "width"),
        ({"height": 0}, "height"),
        ({"step": 10}, "step"),
        ({"data": [1, 2, 3]}, "data"),
        ({"height": 2**32 - 1}, "data"),
    ],
)
def test_a_malformed_image_is_counted_named_and_survived(running: Running, change: dict[str, Any], field: str) -> None:
    before = int(entry(running.status("input image"), "malformed_count"))
    message = Image(width=4, height=2, encoding="bgr8", step=12, data=[0] * 24)
    for name, value in change.items():
        setattr(message, name, value)
    running.camera.send_message(message)
    status = running.status("input image", lambda s: int(entry(s, "malformed_count")) == before + 1)
    assert field in status.message
    assert len(running.send().detections) == 1


def test_overload_drops_frames_and_counts_every_one(running: Running) -> None:
    running.graph.set_parameters("detector", fake__busy_ms=50.0, backends=["fake"])
    before = running.status("input image")
    sent = 60
    for _ in range(sent):
        running.camera.send(grey(64, 48))
        time.sleep(0.01)
    names = ("processed_count", "dropped_count", "received_count")

    def grown(status: Any) -> dict[str, int]:
        return {name: int(entry(status, name)) - int(entry(before, name)) for name in names}

    settled = running.status("input image", lambda s: sum(grown(s)[n] for n in names[:2]) == grown(s)["received_count"])
    counts = grown(settled)
    assert counts["dropped_count"] > 20
    assert counts["processed_count"] + counts["dropped_count"] == counts["received_count"]
    assert counts["received_count"] >= 0.9 * sent
    assert values_of(running.latency.messages[-1])["dropped_frames_count"] > 20
    assert max(values_of(m)["queue_wait_ms"] for m in running.latency.messages[-3:]) < 100


def test_enable_pauses_and_resumes_without_losing_the_subscription(running: Running) -> None:
    answer = running.graph.call(SetBool, "detector/enable", SetBool.Request(data=False))
    assert answer.success
    stamp = Time(sec=77)
    running.camera.send(grey(), stamp=stamp)
    running.status("input image", lambda s: int(entry(s, "paused_count")) >= 1)
    assert not any(m.header.stamp == stamp for m in running.detections.messages)
    assert running.graph.call(SetBool, "detector/enable", SetBool.Request(data=True)).success
    assert running.send().detections


def test_a_failed_switch_keeps_what_runs_and_says_why(running: Running) -> None:
    for values, words in (
        ({"backends": ["torchscript:cuda"]}, "runs on cpu instead of cuda"),
        ({"backends": ["no_such_backend"]}, "there is no backend 'no_such_backend'"),
        ({"backends": ["onnxruntime:cpu:fp1"]}, "not of the form NAME"),
        ({"model": "missing.yaml"}, "missing.yaml"),
    ):
        (result,) = running.graph.set_parameters("detector", **values)
        assert not result.successful
        assert words in result.reason
    assert running.graph.get_parameter("detector", "backends") == ["fake"]
    assert running.send().detections


def test_a_backend_switch_under_load_loses_no_later_frame(graph: Graph) -> None:
    # Reliable and deep, so that only the node itself can lose a frame on a busy machine.
    quality = "qos_overrides./image.subscription"
    running = start(graph, *FAKE, "-p", f"{quality}.reliability:=reliable", "-p", f"{quality}.depth:=100", profile=DEEP)
    ended = threading.Event()
    sent = 0

    def film() -> None:
        nonlocal sent
        while not ended.wait(1 / 30):
            running.camera.send(grey(), stamp=Time(sec=500, nanosec=sent))
            sent += 1

    filming = threading.Thread(target=film)
    filming.start()
    try:
        running.detections.wait_for()
        (result,) = graph.set_parameters("detector", backends=["onnxruntime:cpu"])
        assert result.successful, result.reason
        switched_at = sent
        time.sleep(2)
    finally:
        ended.set()
        filming.join()
    last = Time(sec=500, nanosec=sent - 1)
    running.detections.wait_for(lambda m: m.header.stamp == last)
    answered = {m.header.stamp.nanosec for m in running.detections.messages}
    later = [n for n in range(switched_at + 1, sent) if n not in answered]
    status = running.status("input image")
    assert int(entry(status, "failed_count")) == 0
    assert entry(status, "lost_count") == "0"
    # A frame may be superseded by a newer one on a busy machine; then it is counted, not lost.
    assert len(later) <= int(entry(status, "dropped_count"))
    assert running.status("inference").message.startswith("onnxruntime on cpu")


def test_the_life_cycle(graph: Graph) -> None:
    node = graph.start("detector_node", "-p", "autostart:=false", "-p", "diagnostics_period_s:=0.1", *FAKE)
    running = Running(graph, node)
    graph.wait_for_state("detector", "unconfigured")
    assert running.status("inference").message == "the node is unconfigured; no model is loaded"
    assert graph.change_state("detector", Transition.TRANSITION_CONFIGURE)
    graph.wait_for_state("detector", "inactive")
    for _ in range(2):
        assert graph.change_state("detector", Transition.TRANSITION_ACTIVATE)
        running.camera.wait_for_subscriber()
        assert running.send().detections
        status = running.status("input image", lambda s: int(entry(s, "processed_count")) == 1)
        assert int(entry(status, "dropped_count")) == 0  # counts start again at each activation
        assert graph.change_state("detector", Transition.TRANSITION_DEACTIVATE)
        running.detections.clear()
        running.camera.send(grey())
        time.sleep(0.3)
        assert running.detections.messages == []
    assert graph.change_state("detector", Transition.TRANSITION_CLEANUP)
    graph.wait_for_state("detector", "unconfigured")
    assert graph.change_state("detector", Transition.TRANSITION_CONFIGURE)
    assert graph.change_state("detector", Transition.TRANSITION_ACTIVATE)
    running.camera.wait_for_subscriber()
    assert running.send().detections
    assert graph.change_state("detector", Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert graph.state("detector") == "finalized"
    assert node.end() == 0
    assert "Traceback" not in node.log()


def test_without_fallback_another_device_is_a_refusal_that_says_what_to_do(graph: Graph) -> None:
    node = graph.start("detector_node", "-p", "backends:=['onnxruntime:cuda']", "-p", "diagnostics_period_s:=0.1")
    running = Running(graph, node)
    status = running.status("inference", lambda s: s.level == b"\x02")
    assert "onnxruntime:cuda" in status.message
    assert "onnxruntime-gpu" in status.message
    graph.wait_for_state("detector", "unconfigured")
    assert graph.set_parameters("detector", backends=["fake"])[0].successful
    assert graph.change_state("detector", Transition.TRANSITION_CONFIGURE)
    assert graph.change_state("detector", Transition.TRANSITION_ACTIVATE)
    running.camera.wait_for_subscriber()
    assert running.send().detections


def test_a_fallback_runs_when_allowed_and_is_announced(graph: Graph) -> None:
    running = start(graph, "-p", "backends:=['onnxruntime:cuda','fake']", "-p", "allow_fallback:=true")
    status = running.status("inference")
    assert status.level == b"\x01"
    assert status.message.startswith("fallback: onnxruntime:cuda: runs on cpu instead of cuda")
    assert entry(status, "device") == "cpu"
    assert "fallback:" in running.node.log()


def test_the_next_backend_runs_when_the_first_cannot_open(graph: Graph) -> None:
    running = start(
        graph,
        *("-p", "backends:=['fake','onnxruntime:cpu']", "-p", "allow_fallback:=true"),
        *("-p", "fake.refuse_to_open:=true"),
    )
    status = running.status("inference")
    assert status.level == b"\x01"
    assert "runs onnxruntime:cpu instead of fake" in status.message
    assert entry(status, "backend") == "onnxruntime"


def test_failing_inference_is_counted_and_explained(graph: Graph) -> None:
    # Three frames of warm-up, then one good one.
    running = start(graph, *FAKE, "-p", "fake.fail_from:=5")
    assert running.send().detections
    running.camera.send(grey())
    status = running.status("input image", lambda s: int(entry(s, "failed_count")) == 1)
    assert "inference 5 fails, as told" in status.message


@pytest.mark.parametrize(
    ("output", "words"), [("not_a_number", "NaN or infinite"), ("shape", "the yolov8 head expects")]
)
def test_outputs_that_are_no_detections_are_an_error(graph: Graph, output: str, words: str) -> None:
    node = graph.start("detector_node", *FAKE, "-p", f"fake.output:={output}", "-p", "diagnostics_period_s:=0.1")
    running = Running(graph, node)
    status = running.status("inference", lambda s: s.level == b"\x02")
    assert words in status.message
    graph.wait_for_state("detector", "inactive")


def test_label_info_reaches_a_late_subscriber(running: Running) -> None:
    labels = running.graph.listen(LabelInfo, "label_info", qos.LATCHED).wait_for()
    assert [c.class_name for c in labels.class_map] == [str(d) for d in range(10)]
    assert labels.threshold == pytest.approx(0.45)


def test_annotated_image_is_drawn_while_someone_subscribes(running: Running) -> None:
    annotated = running.graph.listen(Image, "annotated_image", qos.IMAGE_SUBSCRIPTION)
    stamps = iter(range(200, 400))

    def send_until_seen() -> Any:
        end_s = time.monotonic() + 10
        while not annotated.messages:
            assert time.monotonic() < end_s
            running.camera.send(grey(), stamp=Time(sec=next(stamps)))
            time.sleep(0.1)
        return annotated.messages[0]

    picture = send_until_seen()
    assert (picture.width, picture.height, picture.encoding, picture.header.frame_id) == (640, 480, "bgr8", "eye")
    pixels = np.frombuffer(picture.data, np.uint8).reshape(480, 640, 3)
    assert (pixels != 127).any()
    assert (pixels[:100] == 127).all()  # the box is in the middle


def test_old_images_are_dropped_and_counted(graph: Graph) -> None:
    running = start(graph, *FAKE, "-p", "max_image_age_ms:=500.0")
    now = graph.node.get_clock().now().to_msg()
    running.camera.send(grey(), stamp=Time(sec=now.sec - 10))
    running.status("input image", lambda s: entry(s, "stale_count") == "1" and entry(s, "dropped_count") == "1")
    fresh = graph.node.get_clock().now().to_msg()
    running.camera.send(grey(), stamp=fresh)
    running.detections.wait_for(lambda m: m.header.stamp == fresh)


def test_compressed_images(graph: Graph) -> None:
    node = graph.start(
        "detector_node",
        *("-r", "image:=/cam/image_raw", "-p", "image_transport:=compressed", "-p", "diagnostics_period_s:=0.1"),
        *FAKE,
    )
    running = Running(graph, node)
    publisher = graph.node.create_publisher(CompressedImage, "/cam/image_raw/compressed", qos.IMAGE_PUBLISHER)
    running.wait_until_heard()
    end_s = time.monotonic() + 20
    while publisher.get_subscription_count() == 0:
        assert time.monotonic() < end_s
        time.sleep(0.02)
    data = cv2.imencode(".jpg", grey(640, 480))[1].tobytes()
    publisher.publish(CompressedImage(header=Header(frame_id="zip"), format="jpeg", data=data))
    found = running.detections.wait_for()
    assert found.header.frame_id == "zip"
    assert found.detections[0].bbox.center.position.x == pytest.approx(320)
    publisher.publish(CompressedImage(format="jpeg", data=data[:20]))
    assert "JPEG" in running.status("input image", lambda s: int(entry(s, "malformed_count")) == 1).message


def test_several_cameras_have_topics_of_their_own(graph: Graph) -> None:
    node = graph.start("detector_node", "-p", "camera_names:=['front','rear']", *FAKE)
    del node
    mail: dict[str, Mailbox] = {n: graph.listen(Detection2DArray, f"{n}/detections") for n in ("front", "rear")}
    cameras = {name: graph.camera(f"{name}/image") for name in mail}
    for name, camera in cameras.items():
        camera.wait_for_subscriber()
        end_s = time.monotonic() + 20
        while not mail[name].messages:
            assert time.monotonic() < end_s
            camera.send(grey(), frame_id=name)
            time.sleep(0.1)
    for name, mailbox in mail.items():
        assert {m.header.frame_id for m in mailbox.messages} == {name}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(graph: Graph, number: signal.Signals) -> None:
    running = start(graph, *FAKE)
    for _ in range(5):
        running.camera.send(grey())
    assert running.node.end(number, timeout_s=3.0) == 0
    assert "Traceback" not in running.node.log()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-p", "score_threshold:=3.0"), "score_threshold out of range"),
        (("-p", "image_transport:=pigeon"), "expected one of raw, compressed"),
        (("-p", "max_detections:=many"), "max_detections"),
    ],
)
def test_wrong_parameters_at_start_end_the_process_with_a_reason(
    graph: Graph, arguments: tuple[str, ...], words: str
) -> None:
    node = graph.start("detector_node", *arguments)
    assert node.process.wait(20) == 1
    assert words in node.log()
    assert "Traceback" not in node.log()
