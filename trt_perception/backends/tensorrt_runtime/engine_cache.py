"""Where engines are kept, and which of them fits an ONNX file, this TensorRT and this GPU."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trt_perception.artifact_metadata import onnx_input
from trt_perception.backends.tensorrt_runtime.cuda_session import GpuIdentity
from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.backends.tensorrt_runtime.manifest import (
    MANIFEST_SUFFIX,
    PREVIEW,
    EngineKey,
    EngineManifest,
    read_manifest,
)
from trt_perception.errors import BackendError, BackendUnavailableError, ModelFileError

LOG = logging.getLogger(__name__)
CACHE_VARIABLE = "TRT_PERCEPTION_CACHE"
ENGINE_SUFFIX = ".engine"
DEFAULT_PRECISION = "fp16"

_PRECISION_OPTIONS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "fp16": ("--fp16",),
    "int8": ("--int8", "--fp16", "--calibImages", "FOLDER"),
}
# What a runtime needs of an engine. The dispatch runtime hands it to the lean runtime that the engine brings with it.
_NEEDS: dict[str, dict[str, str]] = {
    "full": {},
    "lean": {"versionCompatible": "true", "excludeLeanRuntime": "true"},
    "dispatch": {"versionCompatible": "true"},
}
# Of a key's options: what the precision says already, and what no option of the command is.
_NOT_OPTIONS = ("fp16", "calibration", PREVIEW)


class EngineMissingError(BackendUnavailableError):
    """No engine fits; the message says what the nearest one was built for and how to build the right one."""


@dataclass(frozen=True)
class CachedEngine:
    """An engine file and what it was built from."""

    path: Path
    manifest: EngineManifest


def cache_directory(given: str = "") -> Path:
    """The folder given, else $TRT_PERCEPTION_CACHE, else trt_perception in the user's cache folder."""
    if given:
        return Path(given).expanduser()
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "trt_perception" / "engines"


def build_command(
    onnx: Path,
    wanted: EngineKey,
    *,
    model: str | Path | None = None,
    old: EngineKey | None = None,
    save: Path | None = None,
    cache: str = "",
    device: int = 0,
) -> str:
    """The command line that builds the engine wanted. model: the model file or name, where that is known. old: of an
    engine whose options and shapes it is to have again.

    It says MODEL where it is not known and the ONNX file does not suffice (pictures are to be prepared, or sizes are
    free), and FOLDER for pictures.
    """
    source = ("--model", str(model)) if model is not None else ("--onnx", str(onnx))
    if model is None and (wanted.precision == "int8" or _has_free_size(onnx)):
        source = ("--model", "MODEL")
    words = ["trt-perception", "build-engine", *source, *_PRECISION_OPTIONS.get(wanted.precision, ())]
    words += _option_words(wanted if old is None else replace(old, options={**old.options, **wanted.options}))
    words += ["--saveEngine", str(save)] if save is not None else ["--cache", cache] if cache else []
    words += ["--device", str(device)] if device else []
    return shlex.join(words)


def _option_words(key: EngineKey) -> list[str]:
    """The options of the command that a key's options and shapes are of."""
    words = ["--noFP32Boxes"] if key.options.get("fp32Boxes") == "false" else []
    for name, value in key.options.items():
        if name in _NOT_OPTIONS or value in ("", "false", "none", "default") or name == "fp32Boxes":
            continue
        words.append(f"--{name}" if value == "true" else f"--{name}={value}")
    for index, option in enumerate(("--minShapes", "--optShapes", "--maxShapes")):
        ends = {name: text.split("/")[index] for name, text in key.shapes.items() if text.count("/") == 2}
        given = ",".join(f"{name}:{shape}" for name, shape in ends.items() if shape != "-")
        words += [f"{option}={given}"] if given else []
    return words


def _has_free_size(onnx: Path) -> bool:
    """True where the network's height or width is free; one that cannot be read is for the build to refuse."""
    try:
        stated = onnx_input(onnx)
    except ModelFileError:
        return False
    return stated is not None and None in stated.shape[1:]


def cached_engines(directory: Path) -> list[CachedEngine]:
    """Every engine in the folder that has a readable manifest, newest first; the others are named in the log."""
    engines: list[CachedEngine] = []
    for path in sorted(directory.glob(f"*{ENGINE_SUFFIX}{MANIFEST_SUFFIX}")):
        engine = path.with_name(path.name.removesuffix(MANIFEST_SUFFIX))
        try:
            manifest = read_manifest(engine)
        except BackendError as error:
            LOG.warning("%s", error)
            continue
        if manifest is not None and engine.is_file():
            engines.append(CachedEngine(engine, manifest))
    return sorted(engines, key=lambda found: found.manifest.built_at, reverse=True)


def key_here(onnx_sha256: str, precision: str, trt: TensorRt, gpu: GpuIdentity) -> EngineKey:
    """What an engine must have been built for to run here; shapes stay open, and options but for a lean runtime."""
    needs = _NEEDS[trt.flavour]
    return EngineKey(onnx_sha256, trt.version_text, gpu.name, gpu.compute_capability, precision, options=needs)


def named_engine_problem(engine: Path, wanted: EngineKey, picture: tuple[int, ...] | None = None) -> str | None:
    """Why an engine that a model names has to be built (again), None when it can be used.

    One without a manifest is the user's own and is left alone. picture: as for find_engine.
    """
    if not engine.is_file():
        return f"{engine} does not exist"
    try:
        manifest = read_manifest(engine)
    except BackendError as error:
        return str(error)
    if manifest is None:
        return None
    problem = manifest.problem(engine)
    if problem is not None:
        return problem
    misfit = _misfit(manifest.key, wanted, picture)
    return f"{engine} does not fit ({misfit})" if misfit else None


def find_engine(
    onnx: Path,
    wanted: EngineKey,
    directory: Path,
    command: str,
    picture: tuple[int, ...] | None = None,
    *,
    host_code: bool = False,
) -> CachedEngine:
    """The newest whole engine for that ONNX content, precision, TensorRT and GPU; options are the user's.

    command: builds it. picture: the shape of what will be given to it, since model files may share an ONNX file whose
    sizes are free. host_code: engines that bring a runtime with them may run it; else they are the last choice. Raises
    EngineMissingError which says what differs in the nearest engine, or what is wrong with the right one.
    """
    engines = cached_engines(directory)
    if not host_code:
        engines.sort(key=lambda found: found.manifest.key.brings_runtime)
    reasons: list[str] = []
    for found in engines:
        key = found.manifest.key
        if key.onnx_sha256 != wanted.onnx_sha256 and Path(found.manifest.onnx).name != onnx.name:
            continue
        misfit = _misfit(key, wanted, picture)
        problem = f"{found.path.name} does not fit: {misfit}" if misfit else found.manifest.problem(found.path)
        if problem is None:
            return found
        reasons.append(problem)
    why = min(reasons, key=lambda reason: reason.count(";"), default=f"{directory} has none for it")
    raise EngineMissingError(
        f"there is no {wanted.precision} engine for {onnx} on {wanted.gpu_name} with TensorRT "
        f"{wanted.tensorrt_version}: {why}; build it with `{command}`{_or_by_the_node(wanted)}"
    )


def _misfit(key: EngineKey, wanted: EngineKey, picture: tuple[int, ...] | None) -> str | None:
    """In what an engine of that key is not the one wanted, None when it is."""
    differences = "; ".join(runtime_differences(key, wanted))
    return differences or (key.refuses(picture) if picture is not None else None)


def _or_by_the_node(wanted: EngineKey) -> str:
    """Nothing where the node could not: without pictures, and with a runtime that only runs engines."""
    if wanted.precision == "int8":
        return ""
    if wanted.options:
        return " where the full TensorRT is installed"
    return " (or set build_engine: true for the node)"


def runtime_differences(key: EngineKey, here: EngineKey) -> Sequence[str]:
    """In what an engine does not fit; versions and GPUs for which it was built to be portable do not count."""
    portable_version = key.options.get("versionCompatible") == "true"
    portable_gpu = key.options.get("hardwareCompatibilityLevel", "none") != "none"
    version, gpu = here.tensorrt_version, (here.gpu_name, here.compute_capability)
    if portable_version and _numbers(key.tensorrt_version) <= _numbers(version):
        version = key.tensorrt_version
    if portable_gpu and _runs_on(key, here.compute_capability):
        gpu = (key.gpu_name, key.compute_capability)
    comparable = replace(
        here,
        tensorrt_version=version,
        gpu_name=gpu[0],
        compute_capability=gpu[1],
        shapes=key.shapes,
        options={**key.options, **here.options},
    )
    return key.differences(comparable)


def _runs_on(key: EngineKey, compute_capability: str) -> bool:
    """8.0 and above for `ampere+`, the build's own for `sameComputeCapability`."""
    if key.options.get("hardwareCompatibilityLevel") == "ampere+":
        return _numbers(compute_capability) >= (8, 0)
    return compute_capability == key.compute_capability


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
