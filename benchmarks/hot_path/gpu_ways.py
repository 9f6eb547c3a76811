"""One function for each way to take a frame in host memory through the network on a GPU; a new way is a line in WAYS.

`python -m benchmarks.hot_path.gpu_ways WAY FOLDER WIDTH HEIGHT` runs one in a process of its own: it answers `"ready"`,
then to every number on standard input with as many frames' durations in nanoseconds, as lines of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.hot_path import straightforward
from benchmarks.hot_path.blocks import Way
from benchmarks.hot_path.cpu import detector_way
from benchmarks.hot_path.frames import DISTINCT, camera_frames
from benchmarks.hot_path.gpu_bare import upload_and_engine, upload_and_engine_at_once
from benchmarks.hot_path.gpu_memory import locked_frames
from benchmarks.hot_path.gpu_setting import ONNXRUNTIME, TENSORRT, TORCHSCRIPT, GpuWay, Setting, open_detector
from benchmarks.hot_path.network import SIDE_PX, THRESHOLDS
from trt_perception.detector import Detector
from trt_perception.ros.quiet_collection import QuietCollector
from trt_perception.types import Image, Uint8Array

CAMERAS = 4
WARM_UP_FRAMES = 100


def detector_on(backend: str, *, page_locked: bool = False, one_core: bool = False) -> GpuWay:
    """This package from frame to detections: `total`, and `network` as the backend times it on the device.

    page_locked: the frames lie in such memory; one_core: as the node with `cpu_affinity` of one core.
    """

    @contextmanager
    def way(setting: Setting) -> Iterator[Way]:
        if one_core:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        with open_detector(setting, backend) as detector, _frames(setting, page_locked) as frames:
            yield _with_network(detector, frames)

    return way


@contextmanager
def _frames(setting: Setting, page_locked: bool) -> Iterator[Sequence[Uint8Array]]:
    if not page_locked:
        yield setting.frames
        return
    with locked_frames(setting.frames) as (_, locked):
        yield [frame.pixels for frame in locked]


def _with_network(detector: Detector, frames: Sequence[Uint8Array]) -> Way:
    run = detector_way(detector, list(frames))

    def timed(index: int) -> dict[str, int]:
        row = run(index)
        return {**row, "network": row["total"] - row["around"]}

    return timed


@contextmanager
def straightforward_around_engine(setting: Setting) -> Iterator[Way]:
    """OpenCV and NumPy on the CPU around the same engine: the float blob goes up, all candidates come down."""
    with open_detector(setting, TENSORRT) as detector:

        def run(index: int) -> dict[str, int]:
            frame = setting.frames[index % DISTINCT]
            start_ns = time.monotonic_ns()
            blob, scale, left, top = straightforward.preprocess(frame, SIDE_PX)
            output = detector._backend.infer(np.ascontiguousarray(blob)).arrays[0]
            straightforward.postprocess(output, scale, left, top, THRESHOLDS.score, THRESHOLDS.iou)
            return {"total": time.monotonic_ns() - start_ns}

        yield run


def four_cameras(*, batched: bool, page_locked: bool = False) -> GpuWay:
    """A frame of each of four cameras, one after the other, or in one batch of a network with a free batch axis."""

    @contextmanager
    def way(setting: Setting) -> Iterator[Way]:
        with open_detector(setting, TENSORRT, free_batch=batched) as detector, _frames(setting, page_locked) as frames:
            images = [Image(frame, "bgr") for frame in frames[:CAMERAS]]

            def run(index: int) -> dict[str, int]:
                start_ns = time.monotonic_ns()
                if batched:
                    detector.detect_batch(images)
                else:
                    for image in images:
                        detector.detect(image)
                return {"total": time.monotonic_ns() - start_ns}

            yield run

    return way


BARE, PLAIN = "upload and bare engine", "straightforward around the engine"
BARE_ORDINARY = "upload from ordinary memory and bare engine"
BARE_AT_ONCE = "upload and bare engine at once"
LOCKED = f"{TENSORRT} from page-locked memory"
LOCKED_ON_ONE_CORE = f"{LOCKED} on one core"
TORCHSCRIPT_LOCKED = f"{TORCHSCRIPT} from page-locked memory"
ONNXRUNTIME_LOCKED = f"{ONNXRUNTIME} from page-locked memory"
IN_TURN, BATCHED = "four cameras in turn", "four cameras in a batch"
IN_TURN_LOCKED, BATCHED_LOCKED = (f"{four} from page-locked memory" for four in (IN_TURN, BATCHED))
WAYS: dict[str, GpuWay] = {
    TENSORRT: detector_on(TENSORRT),
    TORCHSCRIPT: detector_on(TORCHSCRIPT),
    ONNXRUNTIME: detector_on(ONNXRUNTIME),
    LOCKED: detector_on(TENSORRT, page_locked=True),
    LOCKED_ON_ONE_CORE: detector_on(TENSORRT, page_locked=True, one_core=True),
    TORCHSCRIPT_LOCKED: detector_on(TORCHSCRIPT, page_locked=True),
    ONNXRUNTIME_LOCKED: detector_on(ONNXRUNTIME, page_locked=True),
    BARE: upload_and_engine(page_locked=True),
    BARE_AT_ONCE: upload_and_engine_at_once,
    BARE_ORDINARY: upload_and_engine(page_locked=False),
    PLAIN: straightforward_around_engine,
    IN_TURN: four_cameras(batched=False),
    BATCHED: four_cameras(batched=True),
    IN_TURN_LOCKED: four_cameras(batched=False, page_locked=True),
    BATCHED_LOCKED: four_cameras(batched=True, page_locked=True),
}


def main() -> None:
    """Runs one way until standard input ends; garbage is collected as the detector node does it, between frames."""
    name, folder, width, height = sys.argv[1:5]
    setting = Setting(Path(folder), camera_frames(int(width), int(height)))
    with WAYS[name](setting) as run:
        for index in range(WARM_UP_FRAMES):
            run(index)
        collector = QuietCollector()
        collector.start()
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            rows = [run(index) for index in range(int(line))]
            print(json.dumps(rows), flush=True)
            collector.rest()


if __name__ == "__main__":
    main()
