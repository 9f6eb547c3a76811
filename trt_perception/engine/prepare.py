"""For a program that wants to run, not to build: the engine of a model is there afterwards, or an error says why."""

from __future__ import annotations

import logging
from pathlib import Path

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.tensorrt_runtime.cuda_session import gpu_identity
from trt_perception.backends.tensorrt_runtime.engine_cache import (
    DEFAULT_PRECISION,
    EngineMissingError,
    cache_directory,
    find_engine,
    key_here,
    named_engine_problem,
)
from trt_perception.backends.tensorrt_runtime.library import load_tensorrt
from trt_perception.engine.build import build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.progress import Progress
from trt_perception.errors import PerceptionError
from trt_perception.external_data import onnx_digest
from trt_perception.model_file import ONNX, ModelFile

LOG = logging.getLogger(__name__)
TENSORRT = "tensorrt"


def ensure_engine(
    model: ModelFile, request: BackendRequest, *, cache: str = "", progress: Progress | None = None
) -> Path | None:
    """The engine that `tensorrt:...` loads for this model, built if none is whole and fitting.

    None for other backends, and for a ready-made engine without an ONNX file beside it in the model. A model that
    names both gets its engine again when that is missing, damaged, or built for another TensorRT or GPU. cache: the
    backend's setting cache_directory. Takes minutes when it builds: call it where nothing waits. Raises
    PerceptionError; INT8 needs pictures, so it is never built here.
    """
    source = model.artifacts.get(ONNX)
    if request.name != TENSORRT or source is None:
        return None
    source.verify(ONNX)
    named = model.artifacts.get("engine")
    precision = request.precision or DEFAULT_PRECISION
    _, _, index = (request.device or "").partition(":")
    device = int(index or 0)
    wanted = key_here(onnx_digest(source.path), precision, load_tensorrt(), gpu_identity(device))
    if named is None:
        try:
            return find_engine(source.path, wanted, cache_directory(cache)).path
        except EngineMissingError as missing:
            reason = str(missing)
    else:
        problem = named_engine_problem(named.path, wanted)
        if problem is None:
            return named.path
        reason = problem
    if precision == "int8":
        raise PerceptionError(
            f"{request}: {reason}. INT8 needs pictures of what the camera sees: build it with `trt-perception "
            f"build-engine --model {model.path or source.path} --int8 --fp16 --calibImages FOLDER`"
        )
    LOG.info("building an engine, which takes minutes: %s", reason)
    options = BuildOptions(
        onnx=source.path,
        save_engine=named.path if named is not None else None,
        cache=cache,
        fp16=precision == "fp16",
        device=device,
    )
    return build_engine(options, model.input, progress=progress).engine
