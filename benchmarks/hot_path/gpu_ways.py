"""One function for each way to take a frame in host memory through the network on a GPU; a new way is a line in WAYS.

`python -m benchmarks.hot_path.gpu_ways WAY FOLDER WIDTH HEIGHT` runs one in a process of its own: it answers `"ready"`,
then to every number on standard input with as many frames' durations in nanoseconds, as lines of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from benchmarks.hot_path import straightforward
from benchmarks.hot_path.blocks import Way
from benchmarks.hot_path.cpu import detector_way
from benchmarks.hot_path.frames import DISTINCT, camera_frames
from benchmarks.hot_path.network import SIDE_PX, THRESHOLDS, write_network
from benchmarks.hot_path.torchscript import write_torchscript
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.tensorrt_runtime.cuda_session import Buffer, CudaSession
from trt_perception.detector import Detector
from trt_perception.engine.prepare import ensure_engine
from trt_perception.errors import PerceptionError
from trt_perception.model_file import Artifact
from trt_perception.models import load_model
from trt_perception.types import Image, Uint8Array

CAMERAS = 4
TENSORRT, TORCHSCRIPT, ONNXRUNTIME = "tensorrt:cuda:fp16", "torchscript:cuda:fp16", "onnxruntime:cuda"
WARM_UP_FRAMES = 30


@dataclass(frozen=True, eq=False)
class Setting:
    """What a way is given: a folder for networks and engines, and the frames, uint8 (height, width, 3) BGR."""

    folder: Path
    frames: list[Uint8Array]


GpuWay: TypeAlias = Callable[[Setting], AbstractContextManager[Way]]


def open_detector(setting: Setting, backend: str, *, free_batch: bool = False) -> Detector:
    """The measured network on that backend; its engine or archive is made if it is not there."""
    network = write_network(setting.folder, free_batch=free_batch)
    model = load_model(network.model)
    if backend.startswith("torchscript"):
        model = replace(model, artifacts={"torchscript": Artifact(write_torchscript(network.onnx))})
    cache = str(setting.folder / "engines")
    ensure_engine(model, BackendRequest.parse(backend), cache=cache)
    return Detector.open(model, backend, settings={"tensorrt": {"cache_directory": cache}})


def detector_on(backend: str, *, page_locked: bool = False) -> GpuWay:
    """This package from frame to detections: `total`. page_locked: the frames lie in such memory."""

    @contextmanager
    def way(setting: Setting) -> Iterator[Way]:
        with open_detector(setting, backend) as detector:
            if not page_locked:
                yield detector_way(detector, list(setting.frames))
                return
            with locked_copies(setting.frames) as (_, _, locked):
                yield detector_way(detector, locked)

    return way


@contextmanager
def locked_copies(
    frames: Sequence[Uint8Array],
) -> Iterator[tuple[CudaSession, list[Buffer], list[Uint8Array]]]:
    """The frames in page-locked memory, with room for each on the device."""
    session = CudaSession(0)
    with session.current():
        buffers = [session.buffer(frame.shape, "uint8") for frame in frames]
    for buffer, frame in zip(buffers, frames, strict=True):
        buffer.host[...] = frame
    try:
        yield session, buffers, [buffer.host for buffer in buffers]
    finally:
        with session.current():
            for buffer in buffers:
                buffer.close()
        session.close()


def upload_and_engine(*, page_locked: bool) -> GpuWay:
    """The least there is: the upload of the frame's bytes, and the engine's own time by device events."""

    @contextmanager
    def way(setting: Setting) -> Iterator[Way]:
        blob = straightforward.preprocess(setting.frames[0], SIDE_PX)[0]
        with open_detector(setting, TENSORRT) as detector, locked_copies(setting.frames) as (session, buffers, _):

            def run(index: int) -> dict[str, int]:
                buffer, frame = buffers[index % DISTINCT], setting.frames[index % DISTINCT]
                start_ns = time.monotonic_ns()
                with session.current():
                    if page_locked:
                        buffer.upload()
                        session.synchronize()
                    else:
                        buffer.upload_ordinary(frame)
                upload_ns = time.monotonic_ns() - start_ns
                engine_ns = detector._backend.infer(blob).inference_ns
                return {"total": upload_ns + engine_ns, "upload": upload_ns, "engine": engine_ns}

            yield run

    return way


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


@contextmanager
def four_in_turn(setting: Setting) -> Iterator[Way]:
    """A frame of each of four cameras, one after the other."""
    with open_detector(setting, TENSORRT) as detector:
        images = [Image(frame, "bgr") for frame in setting.frames[:CAMERAS]]

        def run(index: int) -> dict[str, int]:
            start_ns = time.monotonic_ns()
            for image in images:
                detector.detect(image)
            return {"total": time.monotonic_ns() - start_ns}

        yield run


@contextmanager
def four_in_a_batch(setting: Setting) -> Iterator[Way]:
    """The same four frames in one batch of a network with a free batch axis."""
    with open_detector(setting, TENSORRT, free_batch=True) as detector:
        if not hasattr(detector, "detect_batch"):
            raise PerceptionError("this detector has no detect_batch")
        detect_batch = cast(Any, detector).detect_batch
        images = [Image(frame, "bgr") for frame in setting.frames[:CAMERAS]]

        def run(index: int) -> dict[str, int]:
            start_ns = time.monotonic_ns()
            detect_batch(images)
            return {"total": time.monotonic_ns() - start_ns}

        yield run


BARE, PLAIN = "upload and bare engine", "straightforward around the engine"
BARE_ORDINARY = "upload from ordinary memory and bare engine"
LOCKED = f"{TENSORRT} from page-locked memory"
IN_TURN, BATCHED = "four cameras in turn", "four cameras in a batch"
WAYS: dict[str, GpuWay] = {
    TENSORRT: detector_on(TENSORRT),
    TORCHSCRIPT: detector_on(TORCHSCRIPT),
    ONNXRUNTIME: detector_on(ONNXRUNTIME),
    LOCKED: detector_on(TENSORRT, page_locked=True),
    BARE: upload_and_engine(page_locked=True),
    BARE_ORDINARY: upload_and_engine(page_locked=False),
    PLAIN: straightforward_around_engine,
    IN_TURN: four_in_turn,
    BATCHED: four_in_a_batch,
}


def main() -> None:
    """Runs one way until standard input ends."""
    name, folder, width, height = sys.argv[1:5]
    setting = Setting(Path(folder), camera_frames(int(width), int(height)))
    with WAYS[name](setting) as run:
        for index in range(WARM_UP_FRAMES):
            run(index)
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps([run(index) for index in range(int(line))]), flush=True)


if __name__ == "__main__":
    main()
