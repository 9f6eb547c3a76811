"""What every way of the GPU part starts from: frames, and the measured network on a backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from benchmarks.hot_path.blocks import Way
from benchmarks.hot_path.network import write_network
from benchmarks.hot_path.torchscript import write_torchscript
from trt_perception.backend_request import BackendRequest
from trt_perception.detector import Detector
from trt_perception.engine.prepare import ensure_engine
from trt_perception.model_file import Artifact
from trt_perception.models import load_model
from trt_perception.types import Uint8Array

TENSORRT, TORCHSCRIPT, ONNXRUNTIME = "tensorrt:cuda:fp16", "torchscript:cuda:fp16", "onnxruntime:cuda"


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
