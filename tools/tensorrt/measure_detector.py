"""Times the whole detector on camera frames: from a uint8 frame in host memory to detections in host memory.

    python -m tools.tensorrt.measure_detector [--backend tensorrt:fp16] [--frames 3000] [--width 640] [--height 480]
        [--model digits] [--setting device_path=false]... [--batch 1]

Frames are held-out scenes, several of them in turn, so that no cache holds the picture by chance. Garbage is collected
as the detector node does it: between frames, outside of what is timed.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

import numpy as np
import yaml

from benchmarks.hot_path.gpu_memory import locked_frames
from trt_perception.detector import Detector
from trt_perception.heldout import heldout_scenes
from trt_perception.ros.quiet_collection import QuietCollector

WARM_UP = 100
DISTINCT = 16
TWELFTHS = 12


def main() -> None:
    """Prints median, 95th and 99th percentile, maximum and spread of the whole and of every stage; and how the whole
    went on in time, in twelfths of the frames.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="tensorrt:fp16")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="of the backend")
    parser.add_argument("--batch", type=int, default=1, help="frames given at once")
    parser.add_argument("--page-locked", action="store_true", help="the frames lie in page-locked memory")
    args = parser.parse_args()
    name = args.backend.split(":")[0]
    settings = {name: {k: yaml.safe_load(v) for k, _, v in (s.partition("=") for s in args.setting)}}
    frames = [scene.image_bgr for scene in heldout_scenes(DISTINCT, args.width, args.height, seed=1)]
    rows: dict[str, list[float]] = {"wall_ms": []}
    collector = QuietCollector()
    with ExitStack() as stack:
        if args.page_locked:
            frames = [frame.pixels for frame in stack.enter_context(locked_frames(frames))[1]]
        detector = stack.enter_context(Detector.open(args.model, args.backend, settings=settings))
        info = detector.info
        for index in range(WARM_UP + args.frames):
            if index == WARM_UP:
                collector.start()
            collector.rest()
            start = time.perf_counter_ns()
            result = detector.detect_batch([frames[(index + i) % DISTINCT] for i in range(args.batch)])[0]
            wall = time.perf_counter_ns() - start
            if index >= WARM_UP:
                rows["wall_ms"].append(wall / 1e6)
                for stage, value in result.times.durations_ms().items():
                    rows.setdefault(stage, []).append(value)
    how = " ".join([*args.setting, *(["page-locked"] if args.page_locked else [])])
    print(f"{args.model} with {args.backend} {how} on {info.device_name} ({info.provider})")
    print(f"  {args.frames} times {args.batch} of {args.width}x{args.height}")
    for note in info.notes:
        print(f"note: {note}")
    for name, values in rows.items():
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        print(
            f"  {name:20} p50 {p50:.4f}  p95 {p95:.4f}  p99 {p99:.4f}  max {max(values):.4f}  p99/p50 {p99 / p50:.2f}"
        )
    parts = [np.percentile(part, (50, 99)) for part in np.array_split(rows["wall_ms"], TWELFTHS)]
    print("  wall_ms by twelfths: p50", *(f"{part[0]:.3f}" for part in parts))
    print("                   p99/p50", *(f"{part[1] / part[0]:.2f}" for part in parts))


if __name__ == "__main__":
    main()
