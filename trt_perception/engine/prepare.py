"""For a program that wants to run, not to build: the engine of a model is there afterwards, or an error says why."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.tensorrt_runtime.cuda_session import gpu_identity
from trt_perception.backends.tensorrt_runtime.engine_cache import (
    DEFAULT_PRECISION,
    EngineMissingError,
    build_command,
    cache_directory,
    find_engine,
    key_here,
    named_engine_problem,
)
from trt_perception.backends.tensorrt_runtime.library import load_tensorrt
from trt_perception.backends.tensorrt_runtime.manifest import EngineKey, read_manifest
from trt_perception.engine.build import build_engine
from trt_perception.engine.options import BuildOptions, restored_options
from trt_perception.engine.progress import Progress
from trt_perception.errors import BackendError, PerceptionError
from trt_perception.external_data import onnx_digest
from trt_perception.model_file import ONNX, Artifact, ModelFile

LOG = logging.getLogger(__name__)
TENSORRT = "tensorrt"


def ensure_engine(
    model: ModelFile, request: BackendRequest, *, cache: str = "", progress: Progress | None = None
) -> Path | None:
    """The engine that `tensorrt:...` loads for this model, built if none is whole and fitting.

    None for other backends, and for a ready-made engine without an ONNX file beside it in the model. A model that
    names both gets its engine again, with the options that it was built with, when that is missing, damaged, or built
    for another TensorRT or GPU. cache: the backend's setting cache_directory. Takes minutes when it builds: call it
    where nothing waits. Raises PerceptionError; INT8 needs pictures, so it is never built here, and an engine of
    another precision than asked for, one whose manifest is damaged, or whose sha256 the model file names, is not
    replaced.
    """
    source = model.artifacts.get(ONNX)
    if request.name != TENSORRT or source is None:
        return None
    source.verify(ONNX)
    _, _, index = (request.device or "").partition(":")
    device = int(index or 0)
    trt, gpu = load_tensorrt(), gpu_identity(device)
    named = model.artifacts.get("engine")
    old = None if named is None else _key_of(named.path)
    precision = request.precision or (old.precision if old is not None else DEFAULT_PRECISION)
    wanted = key_here(onnx_digest(source.path), precision, trt, gpu)
    save = None if named is None else named.path
    picture = model.input.batch_shape
    again = None if old is None else old.to_build_again(precision, picture)
    command = build_command(source.path, wanted, model=model.path, old=again, save=save, cache=cache, device=device)
    if named is None:
        try:
            return find_engine(source.path, wanted, cache_directory(cache), command, picture).path
        except EngineMissingError as missing:
            reason = str(missing)
    else:
        problem = named_engine_problem(named.path, wanted, picture)
        if problem is None:
            return named.path
        reason = f"{problem}; the command is `{command}`"
        _require_replaceable(request, named, old, reason)
    if precision == "int8":
        raise PerceptionError(f"{request}: {reason}. INT8 needs pictures of what the camera sees (FOLDER)")
    LOG.info("building an engine, which takes minutes: %s", reason)
    options = BuildOptions(onnx=source.path, fp16=precision == "fp16")
    if again is not None:
        options = restored_options(again, source.path)
    options = replace(options, save_engine=save, cache=cache, device=device)
    return build_engine(options, model.input, progress=progress).engine


def _key_of(engine: Path) -> EngineKey | None:
    """What an engine was built from; None where nothing tells, or what tells is damaged."""
    try:
        manifest = read_manifest(engine)
    except BackendError:
        return None
    return manifest.key if manifest is not None else None


def _require_replaceable(request: BackendRequest, named: Artifact, old: EngineKey | None, reason: str) -> None:
    """Raises PerceptionError where a new engine would destroy what the user made, or could not be used."""
    if named.sha256 is not None:
        raise PerceptionError(
            f"{request}: {reason}. The model file names its sha256, which no engine that is built now would have: "
            "put that file back, or take sha256 out of the model file"
        )
    other = old is not None and request.precision not in (None, old.precision)
    if other or (old is None and named.path.is_file()):
        kind = "an engine whose manifest is damaged" if old is None else f"an {old.precision} engine"
        raise PerceptionError(
            f"{request}: {reason}. What is there is {kind}, which is not replaced: build it again yourself, ask for "
            f"its precision, or take `engine` out of the model file's artifacts to have one built into the cache"
        )
