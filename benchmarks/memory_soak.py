"""Memory of the detector node over many frames: its peak, and whether it grows.

`python -m benchmarks.memory_soak --frames 20000` in the activated environment runs the node as a process, gives it one
640x480 picture after the other as fast as it answers, and prints its resident memory as it goes and a line of JSON. It
exits with 1 when the peak or the growth is above what is promised.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy

from benchmarks.hot_path.camera_probe import CameraProbe
from benchmarks.hot_path.frames import camera_frames
from trt_perception.dds_environment import with_dds_variables
from trt_perception.errors import PerceptionError
from trt_perception.models import DEMO_MODEL
from trt_perception.resources import share_directory
from trt_perception.ros.node_processes import NodeCommand, NodeProcess, node_processes

MOST_PEAK_MB = 250.0
# Of the last three quarters: buffers, caches and the allocator's pools find their size in the first.
MOST_GROWTH_MB = 5.0
_BLOCK_FRAMES = 500
# So fast that each picture goes out as soon as the one before is answered.
_RATE_HZ = 10_000.0
_LINES = {"VmRSS": "resident", "VmHWM": "peak", "RssShmem": "shared", "Threads": "threads"}


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory now, its peak so far, and what of it is shared memory, in 10^6 bytes; and the threads' number."""
    values = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in _LINES:
            number = int(value.split()[0])
            values[_LINES[name]] = float(number) if name == "Threads" else number * 1024 / 1e6
    return values


def soak(frames: int, model: str, environment: Mapping[str, str]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields how many frames were answered and the node's memory, after every block; raises PerceptionError."""
    arguments = ["-r", "image:=image_raw", "-p", f"model:={model}"]
    with node_processes([NodeCommand("detector_node", arguments)], environment) as nodes:
        rclpy.init(args=[])
        try:
            probe = CameraProbe(np.stack(camera_frames(640, 480)), _RATE_HZ)
            try:
                probe.wait_for_detector()
            except TimeoutError as error:
                nodes[0].require_alive()
                raise PerceptionError(str(error)) from error
            answered = 0
            while answered < frames:
                rows = probe.block(min(_BLOCK_FRAMES, frames - answered))
                answered += _answered(rows, nodes[0])
                yield answered, memory_mb(nodes[0].process.pid)
        finally:
            rclpy.try_shutdown()


def _answered(rows: Sequence[dict[str, Any]], node: NodeProcess) -> int:
    node.require_alive()
    count = sum(row["answer_ns"] is not None for row in rows)
    if count == 0:
        raise PerceptionError(f"{node.name} answered none of {len(rows)} pictures")
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 when memory is as promised, 1 when not or when the node failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_soak", description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--model", default=DEMO_MODEL, help="default: %(default)s")
    args = parser.parse_args(arguments)
    os.environ.update(with_dds_variables(os.environ, share_directory() / "config"))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    start_s = time.monotonic()
    samples: list[tuple[int, dict[str, float]]] = []
    try:
        for answered, memory in soak(args.frames, args.model, os.environ):
            samples.append((answered, memory))
            if len(samples) % 4 == 1 or answered >= args.frames:
                print(f"{answered:>7} frames " + ", ".join(f"{k} {v:.1f}" for k, v in memory.items()), flush=True)
    except PerceptionError as error:
        print(f"memory_soak: {error}", file=sys.stderr)
        return 1
    settled = [memory["resident"] for answered, memory in samples if answered >= args.frames / 4]
    figures = {
        "frames": samples[-1][0],
        "peak_mb": max(memory["peak"] for _, memory in samples),
        "growth_mb": settled[-1] - settled[0],
        "seconds": time.monotonic() - start_s,
    }
    print(json.dumps(figures))
    return 0 if figures["peak_mb"] <= MOST_PEAK_MB and figures["growth_mb"] <= MOST_GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main())
