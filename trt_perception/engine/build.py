"""Builds one engine from an ONNX file: looks whether it is there already, else parses, builds and writes it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from trt_perception.artifact_metadata import onnx_input, read_metadata
from trt_perception.atomic_file import require_writable, write_atomically
from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession, gpu_identity
from trt_perception.backends.tensorrt_runtime.engine_cache import (
    ENGINE_SUFFIX,
    cache_directory,
    cached_engines,
)
from trt_perception.backends.tensorrt_runtime.library import TensorRt, load_tensorrt
from trt_perception.backends.tensorrt_runtime.manifest import (
    PREVIEW,
    EngineKey,
    EngineManifest,
    manifest_path,
    read_manifest,
)
from trt_perception.backends.tensorrt_runtime.versions import PROFILE_SHARING
from trt_perception.engine.builder import NativeBuild
from trt_perception.engine.calibration import CalibrationImages
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.progress import Progress, Silent
from trt_perception.engine.shapes import one_picture, profile_for, require_as_fixed
from trt_perception.engine.source import prepare_source
from trt_perception.engine.vocabulary import require_all
from trt_perception.errors import BackendError, BackendUnavailableError, PerceptionError
from trt_perception.external_data import onnx_digest
from trt_perception.file_lock import file_lock
from trt_perception.model_file import InputSpec

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildResult:
    """engine: the file; manifest: what it was built from; built: False when a fitting engine was already there;
    reasons: why it had to be built.
    """

    engine: Path
    manifest: EngineManifest
    built: bool
    reasons: tuple[str, ...]


def build_engine(
    options: BuildOptions,
    spec: InputSpec | None = None,
    *,
    progress: Progress | None = None,
    during_build: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> BuildResult:
    """The engine that the options describe, built only if it is not there whole.

    spec: the model's input, needed for INT8 pictures and as the shape where sizes are free. during_build: entered
    around TensorRT's own work, which does not come back to Python for minutes. Raises PerceptionError, with the old
    engine untouched.
    """
    if not options.onnx.is_file():
        what = "is no file" if options.onnx.exists() else "does not exist"
        raise PerceptionError(f"--onnx: {options.onnx} {what}; give an ONNX file")
    gpu = gpu_identity(options.device)
    trt = load_tensorrt()
    if trt.flavour != "full":
        raise BackendUnavailableError(f"{trt} only runs engines; building needs the full one: pip install tensorrt")
    require_all(trt, options)
    digest = onnx_digest(options.onnx)
    model = options.onnx.read_bytes()
    images = None
    if options.calib_images is not None:
        if spec is None:
            raise PerceptionError("--calibImages needs the model's preprocessing; give --model with its model file")
        images = CalibrationImages(options.calib_images, spec, options.calib_count)
    shapes = _key_shapes(options, spec)
    key = EngineKey(
        onnx_sha256=digest,
        tensorrt_version=trt.version_text,
        gpu_name=gpu.name,
        compute_capability=gpu.compute_capability,
        precision=options.precision,
        shapes=shapes,
        options=_key_options(trt, options, shapes, images),
    )
    target = options.save_engine or _cache_path(options, key)
    reasons, old = _why_build(target, key, options)
    if old is not None:
        return BuildResult(target, old, False, ())
    with file_lock(target, lambda: LOG.info("%s is being built by another process; waits for it", target)):
        if not options.force:
            reasons, old = _why_build(target, key, options)
            if old is not None:
                return BuildResult(target, old, False, ())
        require_writable(target)
        if options.calib is not None and not options.calib.is_file():
            require_writable(options.calib)
        for reason in reasons:
            LOG.info("building %s: %s", target, reason)
        start_ns = time.monotonic_ns()
        plan, notes = _native(trt, options, model, images, spec, progress or Silent(), during_build)
        # It may have written the calibration cache, which is what counts from now on.
        key = replace(key, options=_key_options(trt, options, shapes, images))
        target = options.save_engine or _cache_path(options, key)
        manifest = EngineManifest(
            key=key,
            engine_sha256=hashlib.sha256(plan).hexdigest(),
            engine_bytes=len(plan),
            onnx=str(options.onnx),
            metadata=read_metadata(options.onnx) if options.onnx.suffix == ".onnx" else {},
            built_at=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            build_s=round((time.monotonic_ns() - start_ns) / 1e9, 3),
            notes=tuple(notes),
        )
        # The manifest comes last: whatever happens between the two, an engine that is not its own is never trusted.
        write_atomically(target, plan)
        write_atomically(manifest_path(target), manifest.to_json().encode())
    return BuildResult(target, manifest, True, tuple(reasons))


def _native(
    trt: TensorRt,
    options: BuildOptions,
    model: bytes,
    images: CalibrationImages | None,
    spec: InputSpec | None,
    progress: Progress,
    during_build: Callable[[], AbstractContextManager[object]],
) -> tuple[bytes, list[str]]:
    source = prepare_source(trt, options, model, images)
    session = CudaSession(options.device)
    try:
        with session.current(), NativeBuild(trt, session, options, source, spec) as native, during_build():
            return native.run(progress), list(source.notes)
    finally:
        progress.finish()
        session.close()


def _why_build(target: Path, key: EngineKey, options: BuildOptions) -> tuple[list[str], EngineManifest | None]:
    """The reasons to build, or the manifest of the engine that is already there."""
    if options.force:
        return ["--force was given"], None
    if target.is_file():
        try:
            old = read_manifest(target)
        except BackendError as error:
            return [str(error)], None
        if old is None:
            return [f"{target.name} has no manifest, so it is not known what it was built from"], None
        reasons = old.key.differences(key)
        problem = None if reasons else old.problem(target)
        if problem is not None:
            reasons = [problem]
        return reasons, None if reasons else old
    nearest = [
        engine.manifest.key.differences(key)
        for engine in cached_engines(target.parent)
        if Path(engine.manifest.onnx).name == options.onnx.name
    ]
    if not nearest:
        return ["there is no engine for this model yet"], None
    return min(nearest, key=len), None


def _cache_path(options: BuildOptions, key: EngineKey) -> Path:
    digest = hashlib.sha256(json.dumps(asdict(key), sort_keys=True).encode()).hexdigest()
    return cache_directory(options.cache) / f"{options.onnx.stem}-{key.precision}-{digest[:12]}{ENGINE_SUFFIX}"


def _key_shapes(options: BuildOptions, spec: InputSpec | None) -> dict[str, str]:
    """As BuildOptions.key_shapes, but with the whole profile of the input of free size: the model's size is in it."""
    given = options.key_shapes()
    stated = onnx_input(options.onnx)
    if stated is None:
        return given
    shape = tuple(-1 if size is None else size for size in stated.shape)
    if -1 not in shape:
        require_as_fixed(stated.name, shape, options.shapes)
        return {name: text for name, text in given.items() if name != stated.name}
    return given | {stated.name: str(profile_for(stated.name, shape, options.shapes, one_picture(shape, spec)))}


def _key_options(
    trt: TensorRt, options: BuildOptions, shapes: Mapping[str, str], images: CalibrationImages | None
) -> dict[str, str]:
    """What the user chose, and what the builder adds where sizes are free."""
    added = {PREVIEW: PROFILE_SHARING} if shapes and trt.dialect.profile_sharing == "asked" else {}
    return options.key_options(_calibration(options, images)) | added


def _calibration(options: BuildOptions, images: CalibrationImages | None) -> str:
    """What INT8 ranges rest on: the calibration cache where there is one, else the pictures, else the model."""
    if options.int8_by == "calibrate" and options.calib is not None and options.calib.is_file():
        return f"cache:{hashlib.sha256(options.calib.read_bytes()).hexdigest()}"
    return "model" if images is None else f"images:{images.digest()}"
