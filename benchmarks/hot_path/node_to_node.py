"""Image published to detections received, between two processes: the detector node and the straightforward one.

All nodes are up at once, each with a camera of its own in a ROS domain of its own; the cameras publish in blocks, one
after the other, so that only one node works at a time.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.hot_path.frames import SIZES
from benchmarks.hot_path.memory import peak_rss_mb
from benchmarks.hot_path.network import write_network
from trt_perception.dds_environment import dds_variables, with_dds_variables
from trt_perception.errors import PerceptionError
from trt_perception.heldout import heldout_scenes
from trt_perception.models import DEMO_MODEL, load_model
from trt_perception.resources import share_directory
from trt_perception.ros.node_processes import end_process
from trt_perception.statistics import Summary, summarize

# All ways are measured with the first size, this package's and the straightforward one with the others.
(WIDTH, HEIGHT), *LARGER_SIZES = SIZES
RATE_HZ = 20.0
ROUNDS, BLOCK = 6, 50
OURS, THEIRS = "detector node", "straightforward node"
OURS_DEFAULTS, THEIRS_TUNED = (
    "detector node, Fast DDS defaults",
    "straightforward node, this package's Fast DDS profile",
)
ONE, HUNDRED = "detector node, 1 box", "detector node, 100 boxes"
BY_SIZE = (OURS, THEIRS)
# 0, where robots are by default, stays out; above 101 the ports may be taken by outgoing connections on Linux.
_DOMAINS = range(1, 102)
_WARM_UP_FRAMES = 20
_MOST_LOST_SHARE = 0.02


@dataclass(frozen=True)
class NodeWay:
    """A node to measure: its command, and whether it and its camera have this package's Fast DDS profile."""

    command: Sequence[str]
    tuned: bool
    run_times: Path | None = None
    share_of_frames: float = 1.0


@dataclass
class NodeSamples:
    """Milliseconds of each frame. overhead: answer less inference. told: what the node says of itself."""

    answer: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    overhead: list[float] = field(default_factory=list)
    told: dict[str, list[float]] = field(default_factory=dict)
    lost: int = 0
    peak_rss_mb: float = 0.0

    def summaries(self) -> dict[str, Summary]:
        """Percentiles of all that was measured, told figures by their own names."""
        rows = {"answer_ms": self.answer, "inference_ms": self.inference, "overhead_ms": self.overhead}
        return {name: summarize(values) for name, values in {**rows, **self.told}.items() if values}


def measure(folder: Path) -> tuple[dict[str, float], dict[str, NodeSamples]]:
    """The figures by name, and the samples of each node; files go into the folder. Raises PerceptionError."""
    ways = _ways(folder)
    samples = _run(ways, _frames(folder, WIDTH, HEIGHT))
    ours, theirs = _overhead(samples[OURS]), _overhead(samples[THEIRS])
    default = _overhead(samples[OURS_DEFAULTS])
    figures = {
        "node_overhead_p50_ms": ours.p50,
        "node_overhead_p99_ms": ours.p99,
        "node_overhead_p99_over_p50": ours.p99 / ours.p50,
        "node_overhead_vs_straightforward": ours.p50 / theirs.p50,
        "node_overhead_vs_straightforward_both_default_dds": default.p50 / theirs.p50,
        "node_overhead_vs_straightforward_both_tuned_dds": ours.p50 / _overhead(samples[THEIRS_TUNED]).p50,
        "node_overhead_default_dds_p50_ms": default.p50,
        "node_straightforward_overhead_p50_ms": theirs.p50,
        "node_straightforward_overhead_p99_over_p50": theirs.p99 / theirs.p50,
        "node_100_boxes_over_1_ms": _in_node(samples[HUNDRED]) - _in_node(samples[ONE]),
        "node_100_boxes_over_1_received_ms": _overhead(samples[HUNDRED]).p50 - _overhead(samples[ONE]).p50,
        "peak_rss_mb": samples[OURS].peak_rss_mb,
        "straightforward_peak_rss_mb": samples[THEIRS].peak_rss_mb,
    }
    for width, height in LARGER_SIZES:
        larger = _run(
            {name: replace(ways[name], share_of_frames=0.4) for name in BY_SIZE}, _frames(folder, width, height)
        )
        ours, theirs = (_overhead(larger[name]) for name in BY_SIZE)
        figures[f"node_overhead_p50_ms_{width}x{height}"] = ours.p50
        figures[f"node_overhead_p99_over_p50_{width}x{height}"] = ours.p99 / ours.p50
        figures[f"node_overhead_vs_straightforward_{width}x{height}"] = ours.p50 / theirs.p50
        samples |= {f"{name}, {width}x{height}": larger[name] for name in BY_SIZE}
    return figures, samples


def _frames(folder: Path, width: int, height: int) -> Path:
    """A file of pictures that the camera publishes, uint8 (4, height, width, 3)."""
    path = folder / f"frames_{width}x{height}.npy"
    np.save(path, np.stack([scene.image_bgr for scene in heldout_scenes(4, width, height, seed=7)]))
    return path


def _overhead(samples: NodeSamples) -> Summary:
    if not samples.overhead:
        raise PerceptionError("no image was answered; see the log of the node")
    return summarize(samples.overhead)


def _in_node(samples: NodeSamples) -> float:
    """Median from received to published without inference, as the detector reports it."""
    total, inference = samples.told["total_ms"], samples.told["inference_ms"]
    return float(np.median(np.subtract(total, inference)))


def _ways(folder: Path) -> dict[str, NodeWay]:
    model = load_model(DEMO_MODEL)
    onnx = str(model.artifacts["onnx"].path)

    def ours(*parameters: str) -> list[str]:
        words = [sys.executable, "-m", "trt_perception.ros.start", "detector_node"]
        words += ["--ros-args", "-r", "image:=image_raw"]
        return words + [word for parameter in parameters for word in ("-p", parameter)]

    def theirs(times: Path) -> list[str]:
        module = "benchmarks.hot_path.straightforward_node"
        score = str(model.thresholds.score)
        return [sys.executable, "-m", module, onnx, str(model.input.width), score, str(times)]

    def light(objects: int) -> list[str]:
        return ours(f"model:={write_network(folder, objects=objects, with_layers=False).model}")

    tuned, default = folder / "tuned.json", folder / "default.json"
    reliable = "qos_overrides./image_raw.subscription.reliability:=reliable"
    return {
        OURS: NodeWay(ours(), tuned=True, share_of_frames=2.0),
        THEIRS: NodeWay(theirs(default), tuned=False, run_times=default),
        OURS_DEFAULTS: NodeWay(ours(reliable), tuned=False),
        THEIRS_TUNED: NodeWay(theirs(tuned), tuned=True, run_times=tuned, share_of_frames=0.4),
        ONE: NodeWay(light(1), tuned=True, share_of_frames=0.4),
        HUNDRED: NodeWay(light(100), tuned=True, share_of_frames=0.4),
    }


def _run(ways: Mapping[str, NodeWay], frames: Path) -> dict[str, NodeSamples]:
    samples = {name: NodeSamples() for name in ways}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    with ExitStack() as stack:
        domains = random.sample(_DOMAINS, len(ways))
        running = {
            name: _Running(stack, way, frames, domain)
            for domain, (name, way) in zip(domains, ways.items(), strict=True)
        }
        for name, node in running.items():
            node.wait_until_ready(name)
            node.block(_WARM_UP_FRAMES)
        names = list(ways)
        for turn in range(ROUNDS):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                rows[name] += running[name].block(round(BLOCK * ways[name].share_of_frames))
        for name, node in running.items():
            samples[name].peak_rss_mb = peak_rss_mb(node.node.pid)
    for name, way in ways.items():
        _collect(samples[name], rows[name], json.loads(way.run_times.read_text()) if way.run_times else None)
        if samples[name].lost > _MOST_LOST_SHARE * len(rows[name]):
            print(f"  {name}: {samples[name].lost} of {len(rows[name])} images were not answered within a second")
    return samples


def _collect(samples: NodeSamples, rows: Sequence[dict[str, Any]], run_ns: Mapping[str, int] | None) -> None:
    for row in rows:
        told = row["told"]
        inference_ms = told.get("inference_ms") if run_ns is None else run_ns.get(str(row["stamp_ns"]), 0) / 1e6
        if row["answer_ns"] is None or inference_ms is None:
            samples.lost += 1
            continue
        answer_ms = row["answer_ns"] / 1e6
        samples.answer.append(answer_ms)
        samples.inference.append(inference_ms)
        samples.overhead.append(answer_ms - inference_ms)
        for name, value in told.items():
            samples.told.setdefault(name, []).append(value)


class _Running:
    """A node and its camera; ended by SIGINT with the stack."""

    def __init__(self, stack: ExitStack, way: NodeWay, frames: Path, domain: int) -> None:
        environment = _environment(way.tuned, domain)
        self._log: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self.node = subprocess.Popen(
            way.command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        stack.callback(end_process, self.node)
        command = [sys.executable, "-m", "benchmarks.hot_path.camera_probe", str(frames), str(RATE_HZ)]
        self._camera = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._camera.stdin is not None
        stack.callback(end_process, self._camera, self._camera.stdin.close)

    def wait_until_ready(self, name: str) -> None:
        """Returns when camera and node have found each other; raises PerceptionError with the node's log."""
        try:
            self._answer()
        except PerceptionError as error:
            self._log.seek(0)
            raise PerceptionError(f"{name} does not answer ({error}): {self._log.read().decode()[-2000:]}") from error

    def block(self, count: int) -> list[dict[str, Any]]:
        """Publishes so many images and returns the camera's rows."""
        assert self._camera.stdin is not None
        self._camera.stdin.write(f"{count}\n")
        self._camera.stdin.flush()
        rows: list[dict[str, Any]] = self._answer()
        return rows

    def _answer(self) -> Any:
        assert self._camera.stdout is not None
        line = self._camera.stdout.readline()
        if not line:
            raise PerceptionError("the camera process ended; its output says why")
        return json.loads(line)


def _environment(tuned: bool, domain: int) -> dict[str, str]:
    config = share_directory() / "config"
    environment = {name: value for name, value in os.environ.items() if name not in dds_variables(config)}
    if tuned:
        environment = with_dds_variables(environment, config)
    return {**environment, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
