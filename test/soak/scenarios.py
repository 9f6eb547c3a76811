"""One function a kind of fault: it makes the fault so many times and returns what became of it."""

from __future__ import annotations

import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from test.soak.bad_images import bad_compressed, bad_images, good_image
from test.soak.bench import Bench, Camera, Row, bench, deaf_subscriber, filming
from test.soak.resources import Growth, Sampler, growth
from trt_perception.ros import qos

RATE_HZ = 400.0
SLOW_HZ = 60.0
FAKE = ("-p", "backends:=[fake]")
# The first part of a long run fills caches and pools; growth counts after it.
_WARM_UP_SHARE = 0.1
_MOST_WARM_UP = 5000


def steady(frames: int, backend: str = "fake") -> tuple[Row, Growth]:
    """Nothing goes wrong: so many frames are processed, and memory and descriptors stay as they are."""
    start_s = time.monotonic()
    with bench("-p", f"backends:=['{backend}']") as one, filming(one.graph, RATE_HZ):
        one.wait_until_active()
        warm_up = min(round(frames * _WARM_UP_SHARE), _MOST_WARM_UP)
        _process(one, warm_up)
        sampler = Sampler(one.node.process.pid, min(1.0, frames / 10_000))
        _process(one, warm_up + frames)
        grown = growth(sampler.stop())
        row = _row(one, f"none: a steady run on {backend}", 1, "memory and descriptors stay as they are", None, start_s)
    return row, grown


def _process(one: Bench, frames: int) -> None:
    one.wait_until(lambda: one.count("processed") >= frames, f"{frames} frames", max(60.0, frames / 20))


def camera_restarts(times: int, rng: random.Random) -> Row:
    """The camera is killed and started again; recovery is from the first picture that is heard to the first result."""
    start_s, recovery_s = time.monotonic(), [0.0]
    found_s: list[float] = []
    with bench(*FAKE) as one, ExitStack() as stack:
        one.wait_until_active()
        for _ in range(times):
            camera = Camera(one.graph, SLOW_HZ)
            stack.callback(camera.end)
            first_s, heard_s = camera.said_s("first"), camera.said_s("heard")
            found_s.append(heard_s - first_s)
            recovery_s.append(one.first_result_after(heard_s))
            time.sleep(rng.uniform(0.0, 0.5))
            camera.kill()
        outcome = (
            "results come again; before that DDS took "
            f"{statistics.median(found_s):.2f} s (median), {max(found_s):.2f} s (worst) to find the new camera"
        )
        return _row(one, "camera killed and started again", times, outcome, max(recovery_s), start_s)


def backend_failures(times: int, rng: random.Random, warm: bool = True) -> Row:
    """The backend that runs begins to fail at a random moment, and is mended after a while."""
    start_s, recovery_s = time.monotonic(), [0.0]
    with tempfile.TemporaryDirectory() as folder:
        fault = Path(folder) / "broken"
        arguments = (
            *("-p", "backends:=['fake','onnxruntime:cpu']", "-p", "allow_fallback:=true", "-p", "backend_retry_s:=0.5"),
            *("-p", f"fake.broken_while:={fault}", "-p", f"warm_fallback:={str(warm).lower()}"),
        )
        with bench(*arguments) as one, filming(one.graph, SLOW_HZ):
            one.wait_until_active()
            one.first_result_after(time.monotonic(), lambda index: index == 0)
            for _ in range(times):
                time.sleep(rng.uniform(0.5, 1.5))
                broken_s = time.monotonic()
                fault.touch()
                recovery_s.append(one.first_result_after(broken_s, lambda index: index == 1))
                one.wait_until(lambda: one.value("backend") == "onnxruntime", "the announcement")
                assert "fallback: runs onnxruntime:cpu instead of fake" in one.status["inference"][1]
                time.sleep(rng.uniform(0.0, 0.5))
                fault.unlink()
                one.first_result_after(time.monotonic(), lambda index: index == 0)
            name = f"backend fails while it runs, {'warm' if warm else 'cold'} fallback"
            return _row(
                one, name, times, "the next one runs, announced; then the first again", max(recovery_s), start_s
            )


def changes(times: int, rng: random.Random) -> Row:
    """Parameters, right and wrong, backends and the pause are changed at random under load."""
    start_s = time.monotonic()
    arguments = ("-p", "backends:=['fake','onnxruntime:cpu']", "-p", "allow_fallback:=true")
    with bench(*arguments) as one, filming(one.graph, SLOW_HZ):
        one.wait_until_active()
        for _ in range(times):
            rng.choice((_change_parameter, _change_parameter, _send_nonsense, _pause))(one, rng)
            assert not one.crashed, one.node.log()[-3000:]
        one.graph.call(SetBool, "detector/enable", SetBool.Request(data=True))
        one.graph.set_parameters("detector", score_threshold=0.5, max_image_age_ms=0.0, backends=["fake"])
        recovery_s = one.first_result_after(time.monotonic(), lambda index: index == 0)
        outcome = "right ones hold, wrong ones are refused with a reason"
        return _row(one, "parameters and backends changed at random", times, outcome, recovery_s, start_s)


def _change_parameter(one: Bench, rng: random.Random) -> None:
    name, value = rng.choice(
        (
            ("score_threshold", rng.uniform(-0.5, 1.5)),
            ("iou_threshold", rng.uniform(0, 1)),
            ("max_detections", rng.choice((-1, 0, 1, 300))),
            ("class_id_format", rng.choice(("name", "index", "colour"))),
            ("max_image_age_ms", rng.choice((0.0, 100.0, float("nan"), -1.0))),
            ("max_inference_share", rng.choice((0.0, 0.5, 2.0))),
            ("max_consecutive_errors", rng.choice((0, 5, -5))),
            ("warm_fallback", rng.choice((True, False))),
            ("inference_timeout_s", rng.choice((0.0, 2.0, 10.0))),
            ("backends", rng.choice((["fake"], ["onnxruntime:cpu"], ["fake", "onnxruntime:cpu"], ["nothing"], [""]))),
            ("model", rng.choice(("digits", "no_such_model", ""))),
            ("allow_fallback", rng.choice((True, False, "perhaps"))),
        )
    )
    (result,) = one.graph.set_parameters("detector", **{name: value})
    assert result.successful or result.reason, (name, value)


def _send_nonsense(one: Bench, rng: random.Random) -> None:
    """A value of a type that there is none of makes rclpy raise; an undeclared name does not."""
    value = ParameterValue(type=rng.choice((0, 1, 4, 9, 77, 255)), double_value=float("inf"))
    name = rng.choice(("", "model", "backends", "score_threshold", "\u00e9", "x" * 1000))
    one.graph.call(
        SetParameters,
        "detector/set_parameters",
        SetParameters.Request(parameters=[Parameter(name=name, value=value)]),
    )


def _pause(one: Bench, rng: random.Random) -> None:
    one.graph.call(SetBool, "detector/enable", SetBool.Request(data=rng.random() < 0.5))


def deaf_subscribers(seconds: float) -> Row:
    """A reliable subscriber of the results that never reads, then one whose process is stopped."""
    start_s = time.monotonic()
    with bench(*FAKE) as one, filming(one.graph, SLOW_HZ):
        one.wait_until_active()
        alone = _publish_ms(one, seconds)
        with deaf_subscriber(one.graph) as deaf:
            heard = _publish_ms(one, seconds)
            os.kill(deaf.pid, signal.SIGSTOP)
            stopped = _publish_ms(one, seconds)
        outcome = f"images go on; publish_ms p50 {alone:.2f} without, {heard:.2f} with, {stopped:.2f} with it stopped"
        return _row(one, "a reliable subscriber that never reads", 2, outcome, None, start_s)


def _publish_ms(one: Bench, seconds: float) -> float:
    before, end_s = one.result_count, time.monotonic() + seconds
    one.wait_until(lambda: time.monotonic() > end_s, "the time")
    came = one.result_count - before
    assert came > 0.5 * seconds * SLOW_HZ, f"{came} results in {seconds} s at {SLOW_HZ} Hz"
    return statistics.median(publish for _, _, publish in list(one.results)[-came:])


def stops(times: int, rng: random.Random) -> Row:
    """The process is stopped, for longer than an inference may take, and goes on."""
    start_s, recovery_s = time.monotonic(), [0.0]
    arguments = (*FAKE, "-p", "fake.busy_ms:=10.0", "-p", "inference_timeout_s:=0.5")
    with bench(*arguments) as one, filming(one.graph, SLOW_HZ):
        one.wait_until_active()
        for _ in range(times):
            one.node.process.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.7, 2.0))
            one.node.process.send_signal(signal.SIGCONT)
            recovery_s.append(one.first_result_after(time.monotonic()))
            time.sleep(rng.uniform(0.0, 0.2))
        one.settle()
        return _row(one, "SIGSTOP, then SIGCONT", times, "goes on", max(recovery_s), start_s)


def bad_input(times: int, rng: random.Random, transport: str = "raw") -> Row:
    """Images that are none, between good ones."""
    kind: Any = Image if transport == "raw" else CompressedImage
    messages: Callable[..., Any] = bad_images if transport == "raw" else bad_compressed
    start_s = time.monotonic()
    with bench(*FAKE, "-p", f"image_transport:={transport}") as one:
        topic = "image" if transport == "raw" else "image/compressed"
        publisher = one.graph.node.create_publisher(kind, topic, qos.IMAGE_PUBLISHER)
        one.wait_until_active()
        one.wait_until(lambda: publisher.get_subscription_count() > 0, "the subscription")
        for message in messages(rng, times):
            publisher.publish(message)
            time.sleep(0.003)
            assert not one.crashed, one.node.log()[-3000:]
        one.settle()
        assert one.count("malformed") > 0
        sent_s = time.monotonic()
        if transport == "raw":
            publisher.publish(good_image())
        else:
            one.wait_until(lambda: _answers(one, publisher, rng, sent_s), "an answer to a good image")
        recovery_s = one.first_result_after(sent_s)
        outcome = f"{one.count('malformed')} counted as malformed, each with its reason"
        return _row(one, f"bad images, {transport}", times, outcome, recovery_s, start_s)


def _answers(one: Bench, publisher: Any, rng: random.Random, sent_s: float) -> bool:
    for message in bad_compressed(rng, 20):
        publisher.publish(message)
        time.sleep(0.01)
    return bool(one.results) and one.results[-1][0] > sent_s


def _row(one: Bench, fault: str, times: int, outcome: str, recovery_s: float | None, start_s: float) -> Row:
    one.settle()
    assert "Traceback" not in one.node.log(), one.node.log()[-3000:]
    worst = None if recovery_s is None else round(recovery_s, 3)
    frames, lost = one.count("received") + one.count("lost"), one.lost()
    return Row(fault, times, outcome, int(one.crashed), frames, lost, worst, round(time.monotonic() - start_s, 1))
