"""For a program that wants to run, not to build: the engine of a model is there afterwards, or an error says why."""

from __future__ import annotations

from pathlib import Path

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.tensorrt_runtime.engine_cache import DEFAULT_PRECISION
from trt_perception.engine.build import BuildResult, build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.progress import Progress
from trt_perception.errors import PerceptionError
from trt_perception.model_file import ModelFile

TENSORRT = "tensorrt"


def ensure_engine(model: ModelFile, request: BackendRequest, progress: Progress | None = None) -> BuildResult | None:
    """Builds what `tensorrt:...` would load, unless it is there; None for other backends and for a ready-made engine.

    A model that names both an engine and an ONNX file gets that engine again when it is damaged, or was built for
    another TensorRT or GPU. INT8 needs pictures, so it is built with `trt-perception build-engine`. Takes minutes:
    call it where nothing waits. Raises PerceptionError.
    """
    if request.name != TENSORRT:
        return None
    named = model.artifacts.get("engine")
    source = model.artifacts.get("onnx")
    if source is None:
        if named is None:
            raise PerceptionError(f"model {model.name!r} has no onnx artifact to build an engine from; add it")
        return None
    source.verify()
    precision = request.precision or DEFAULT_PRECISION
    if precision == "int8":
        raise PerceptionError(
            f"{request}: INT8 needs pictures of what the camera sees; build the engine with `trt-perception "
            f"build-engine --model {model.path or source.path} --int8 --fp16 --calibImages FOLDER`"
        )
    _, _, index = (request.device or "").partition(":")
    options = BuildOptions(
        onnx=source.path,
        save_engine=Path(named.path) if named is not None else None,
        fp16=precision == "fp16",
        device=int(index or 0),
    )
    return build_engine(options, model.input, progress=progress)
