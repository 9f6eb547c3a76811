"""Pixels to detections on the CPU: the detector, the bare network, the straightforward way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.hot_path import straightforward
from benchmarks.hot_path.blocks import Samples, Way, interleave, median, ratio
from benchmarks.hot_path.frames import DISTINCT, SIZES, camera_frames
from benchmarks.hot_path.network import OBJECTS, SIDE_PX, THRESHOLDS, Network, write_network
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.detector import Detector
from trt_perception.errors import PerceptionError
from trt_perception.types import Image

ROUNDS, BLOCK = 6, 8
LIGHT_ROUNDS, LIGHT_BLOCK = 10, 20


def measure(folder: Path) -> tuple[dict[str, float], dict[str, Samples]]:
    """The figures by name, and all samples by size and way. The network is written into the folder."""
    network = write_network(folder)
    figures: dict[str, float] = {"network_gflop": network.gflop}
    samples: dict[str, Samples] = {}
    for width, height in SIZES:
        size = f"{width}x{height}"
        samples[size] = _one_size(network, width, height)
        figures.update(_figures(samples[size], size))
    for name in ("cpu_pre_post_vs_straightforward", "cpu_total_vs_bare_run", "cpu_total_vs_default_session"):
        figures[name] = max(figures[f"{name}_{width}x{height}"] for width, height in SIZES)
    samples["100 boxes or 1"] = _many_or_one(folder)
    many, one = (median(samples["100 boxes or 1"][name]["around"]) for name in ("100 boxes", "1 box"))
    figures["cpu_detector_100_boxes_over_1_ms"] = many - one
    return figures, samples


def _figures(samples: Samples, size: str) -> dict[str, float]:
    plain, bare = "straightforward", "bare session.run"
    return {
        f"cpu_pre_post_vs_straightforward_{size}": ratio(samples, ("detector", "around"), (plain, "around")),
        f"cpu_pre_vs_straightforward_{size}": ratio(samples, ("detector", "pre"), (plain, "pre")),
        f"cpu_post_vs_straightforward_{size}": ratio(samples, ("detector", "post"), (plain, "post")),
        f"cpu_total_vs_bare_run_{size}": ratio(samples, ("detector", "total"), (bare, "total")),
        f"cpu_total_vs_default_session_{size}": ratio(
            samples, ("detector", "total"), ("bare session.run, default options", "total")
        ),
        f"cpu_total_vs_straightforward_{size}": ratio(samples, ("detector", "total"), (plain, "total")),
        f"cpu_pre_post_ms_{size}": median(samples["detector"]["around"]),
        f"cpu_straightforward_pre_post_ms_{size}": median(samples[plain]["around"]),
        f"cpu_bare_run_ms_{size}": median(samples[bare]["total"]),
    }


def _one_size(network: Network, width: int, height: int) -> Samples:
    import onnxruntime

    frames = camera_frames(width, height)
    with Detector.open(network.model, "onnxruntime:cpu") as detector:
        # The very session that the detector runs: the same threads, the same options.
        session = cast(OnnxRuntimeBackend, detector._backend)._session
        default = onnxruntime.InferenceSession(str(network.onnx), providers=["CPUExecutionProvider"])
        blobs = [straightforward.preprocess(frame, SIDE_PX)[0] for frame in frames]
        ways: dict[str, Way] = {
            "detector": detector_way(detector, frames),
            "bare session.run": _bare(session, blobs),
            "bare session.run, default options": _bare(default, blobs),
            "straightforward": _straightforward(session, frames),
        }
        return interleave(ways, ROUNDS, BLOCK)


def detector_way(detector: Detector, frames: list[Any], objects: int = OBJECTS) -> Way:
    """This package: `around` is all that is not inference. Raises PerceptionError when objects are missing."""
    found = len(detector.detect(frames[0]).detections)
    if found != objects:
        raise PerceptionError(f"the detector found {found} boxes where the network has planted {objects}")

    def run(index: int) -> dict[str, int]:
        image = Image(frames[index % DISTINCT], "bgr")
        start_ns = time.monotonic_ns()
        times = detector.detect(image).times
        total_ns = time.monotonic_ns() - start_ns
        around_ns = total_ns - times.inference_ns
        return {"total": total_ns, "around": around_ns, "pre": times.preprocess_ns, "post": times.postprocess_ns}

    return run


def _bare(session: Any, blobs: list[Any]) -> Way:
    name = session.get_inputs()[0].name

    def run(index: int) -> dict[str, int]:
        blob = blobs[index % DISTINCT]
        start_ns = time.monotonic_ns()
        session.run(None, {name: blob})
        return {"total": time.monotonic_ns() - start_ns}

    return run


def _straightforward(session: Any, frames: list[Any]) -> Way:
    name = session.get_inputs()[0].name

    def detect(frame: Any) -> tuple[list[Any], dict[str, int]]:
        start_ns = time.monotonic_ns()
        blob, scale, left, top = straightforward.preprocess(frame, SIDE_PX)
        ready_ns = time.monotonic_ns()
        outputs = session.run(None, {name: blob})
        done_ns = time.monotonic_ns()
        found = straightforward.postprocess(outputs[0], scale, left, top, THRESHOLDS.score, THRESHOLDS.iou)
        end_ns = time.monotonic_ns()
        pre_ns, post_ns = ready_ns - start_ns, end_ns - done_ns
        return found, {"total": end_ns - start_ns, "around": pre_ns + post_ns, "pre": pre_ns, "post": post_ns}

    found, _ = detect(frames[0])
    if len(found) != OBJECTS:
        raise PerceptionError(f"the straightforward way found {len(found)} boxes; the network has planted {OBJECTS}")
    return lambda index: detect(frames[index % DISTINCT])[1]


def _many_or_one(folder: Path) -> Samples:
    """A network without layers that has planted 100 boxes, or one: what the boxes themselves cost."""
    frames = [np.asarray(frame) for frame in camera_frames(640, 480)]
    networks = {n: write_network(folder, objects=n, with_layers=False) for n in (1, 100)}
    with (
        Detector.open(networks[1].model, "onnxruntime:cpu") as one,
        Detector.open(networks[100].model, "onnxruntime:cpu") as many,
    ):
        ways = {"1 box": detector_way(one, frames, 1), "100 boxes": detector_way(many, frames, 100)}
        return interleave(ways, LIGHT_ROUNDS, LIGHT_BLOCK)
