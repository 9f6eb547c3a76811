"""TensorRT: runs an engine file, or the cached engine of an ONNX file, on an NVIDIA GPU."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from trt_perception.artifact_metadata import engine_header_size, read_metadata
from trt_perception.backends.base import Backend, BackendInfo, RawOutputs
from trt_perception.backends.cuda_frames.path import CudaFramePath
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.frame_path import FramePath, FramePlan
from trt_perception.backends.settings import require_stream_count, require_writable_setting
from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession, GpuIdentity, gpu_identity
from trt_perception.backends.tensorrt_runtime.engine_cache import (
    DEFAULT_PRECISION,
    ENGINE_SUFFIX,
    build_command,
    cache_directory,
    find_engine,
    key_here,
    named_engine_problem,
)
from trt_perception.backends.tensorrt_runtime.engine_network import EngineNetwork
from trt_perception.backends.tensorrt_runtime.engine_runner import EngineRunner
from trt_perception.backends.tensorrt_runtime.layer_profiler import LayerProfiler
from trt_perception.backends.tensorrt_runtime.library import AUTO, TensorRt, load_tensorrt
from trt_perception.backends.tensorrt_runtime.manifest import EngineManifest, read_manifest
from trt_perception.errors import BackendError, ModelFileError
from trt_perception.external_data import onnx_digest
from trt_perception.model_file import ONNX, ModelFile
from trt_perception.types import AnyArray, Float32Array

_ONNX_SUFFIX = ".onnx"
_UNKNOWN_PRECISION = "unknown"
_MAPPED = (AUTO, "on", "off")


@dataclass(frozen=True)
class TensorRtSettings:
    """cuda_graph: copies and inference are recorded once and launched as one. runtime: full, lean or dispatch
    library, auto takes the first that is installed. cache_directory: where engines are looked for, empty for
    $TRT_PERCEPTION_CACHE or the user's cache folder. device_path: camera bytes become the input tensor, and outputs
    become boxes, on the GPU. mapped_memory: on, off, or auto, the GPU reads pictures from the host's memory instead
    of a copy; auto: where both share one memory (Jetson). streams: frames that may overlap when several are given at
    once to an engine with a batch of 1; each takes a further execution context's memory. engine_host_code_allowed:
    run the lean runtime that a version-compatible engine may bring with it. profile_to: file for the time of every
    layer, written by close(); empty = not measured, which costs time.
    """

    cuda_graph: bool = True
    runtime: str = AUTO
    cache_directory: str = ""
    device_path: bool = True
    mapped_memory: str = AUTO
    streams: int = 1
    engine_host_code_allowed: bool = False
    profile_to: str = ""

    def __post_init__(self) -> None:
        if self.mapped_memory not in _MAPPED:
            raise BackendError(
                f"setting 'mapped_memory' of tensorrt is {self.mapped_memory!r}; expected {', '.join(_MAPPED)}"
            )
        require_stream_count("tensorrt", self.streams)


class TensorRtBackend(Backend):
    """Runs an engine; calls from several threads take turns. Building is for `trt-perception build-engine`."""

    name: ClassVar[str] = "tensorrt"
    artifact_kind: ClassVar[str] = "engine"
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")
    Settings = TensorRtSettings
    path_settings: ClassVar[tuple[str, ...]] = ("cache_directory", "profile_to")

    _runner: EngineRunner | None = None
    _net: weakref.finalize[..., TensorRtBackend] | None = None

    @classmethod
    def choose_artifact(cls, kinds: Collection[str]) -> str:
        """The model's engine where it has one, else its ONNX file, whose engine is then looked for in the cache."""
        return "onnx" if "onnx" in kinds and "engine" not in kinds else "engine"

    def _open(self) -> BackendInfo:
        try:
            return self._open_engine()
        except BackendError as error:
            raise type(error)(f"{self.request}: {error}") from error
        except ModelFileError as error:
            raise BackendError(f"{self.request}: {error}") from error

    def _open_engine(self) -> BackendInfo:
        self._turn = threading.RLock()
        self._paths: dict[FramePlan, CudaFramePath] = {}
        settings: TensorRtSettings = self.settings
        if settings.profile_to:
            require_writable_setting(self.request, "profile_to", settings.profile_to)
        gpu = gpu_identity(self.device_index)
        trt = load_tensorrt(settings.runtime)
        engine, manifest, notes = self._engine_and_manifest(trt, gpu)
        plan = _engine_bytes(engine)
        how = {
            "cuda_graph": settings.cuda_graph,
            "profile": bool(settings.profile_to),
            "host_code": settings.engine_host_code_allowed,
            "shares_profile": _shares_profile(manifest, trt, host_code=settings.engine_host_code_allowed),
        }
        session = CudaSession(self.device_index)
        try:
            runner = EngineRunner(trt, session, plan, tell=self._teller(), **how)
        except BackendError as error:
            raise BackendError(f"{engine}: {error}") from error
        self._runner = runner
        # The net for a program that ends without close(): the driver must still be there when things are freed.
        self._net = weakref.finalize(self, runner.close)
        if runner.no_graph_reason:
            notes.append(f"no CUDA graph: {runner.no_graph_reason}")
        return BackendInfo(
            backend=self.name,
            requested=str(self.request),
            device=f"cuda:{self.device_index}",
            device_name=gpu.name,
            provider=f"{trt}, compute capability {gpu.compute_capability}",
            precision=manifest.key.precision if manifest else _UNKNOWN_PRECISION,
            library=f"tensorrt {trt.version_text}",
            inputs=runner.inputs,
            outputs=runner.outputs,
            metadata=read_metadata(engine, ENGINE_SUFFIX) or (manifest.metadata if manifest else {}),
            notes=tuple(notes),
        )

    def _engine_and_manifest(self, trt: TensorRt, gpu: GpuIdentity) -> tuple[Path, EngineManifest | None, list[str]]:
        """The engine file to load, checked against its manifest before TensorRT sees it."""
        precision, model = self.request.precision, self.model
        picture = model.input.batch_shape if model is not None else None
        if self.artifact.suffix.lower() == _ONNX_SUFFIX:
            wanted = key_here(onnx_digest(self.artifact), precision or DEFAULT_PRECISION, trt, gpu)
            settings: TensorRtSettings = self.settings
            cache, host_code = settings.cache_directory, settings.engine_host_code_allowed
            source = model.path if model is not None else None
            command = build_command(self.artifact, wanted, model=source, cache=cache, device=self.device_index)
            found = find_engine(self.artifact, wanted, cache_directory(cache), command, picture, host_code=host_code)
            return found.path, found.manifest, list(found.manifest.notes)
        manifest = read_manifest(self.artifact)
        if manifest is None:
            return self.artifact, None, [f"{self.artifact.name} has no manifest: its origin could not be checked"]
        precision = precision or manifest.key.precision
        # A network that was exported anew since then must not run as it was before.
        onnx, digest, notes = _onnx_beside(model, manifest)
        wanted = key_here(digest, precision, trt, gpu)
        problem = named_engine_problem(self.artifact, wanted, picture)
        if problem is not None:
            source = model.path if model is not None and ONNX in model.artifacts else None
            command = build_command(
                onnx,
                wanted,
                model=source,
                old=manifest.key.to_build_again(precision, picture),
                save=self.artifact,
                device=self.device_index,
            )
            raise BackendError(f"{problem}; build it again with `{command}`")
        return self.artifact, manifest, [*manifest.notes, *notes]

    def input_buffer(self, shape: tuple[int, ...]) -> Float32Array | None:
        """The page-locked memory that the copy to the device starts from."""
        return self._runner.input_buffer(shape) if self._runner is not None else None

    def frame_path(self, plan: FramePlan) -> FramePath | str | None:
        """Kernels before and after the engine, all in one CUDA graph. It does not keep the backend alive."""
        settings: TensorRtSettings = self.settings
        if not settings.device_path:
            return "switched off by the setting device_path"
        with self._turn:
            if self._runner is None:
                raise BackendError(f"{self.request} was closed by another thread")
            if plan in self._paths:
                return self._paths[plan]
            reason = self._runner.no_graph_reason
            if reason is not None:
                return f"it needs a CUDA graph: {reason}"
            # TensorRT's own stream and context: the two ways take turns on them.
            session = FrameSession(self.device_index, self._runner.session.stream_handle)
            shared = settings.mapped_memory == "on" or (settings.mapped_memory == AUTO and session.integrated)
            try:
                network = EngineNetwork(self._runner, plan.input)
                streams = self._streams(self._runner)
                path = CudaFramePath(
                    network, session, plan, self._turn, tell=self._teller(), streams=streams, shared=shared
                )
            except BackendError as error:
                return str(error)
            self._runner.close_first(path.close)
            self._paths[plan] = path
        return path

    def _streams(self, runner: EngineRunner) -> int:
        settings: TensorRtSettings = self.settings
        # A batch is one inference, on one stream.
        if settings.streams == 1 or runner.range.largest[0] > 1:
            return settings.streams
        try:
            with runner.session.current():
                runner.further_context()
        except BackendError as error:
            self._add_notes(f"one stream instead of {settings.streams}: {error}")
            return 1
        return settings.streams

    def _teller(self) -> Callable[[str], None]:
        """Takes notes without keeping the backend alive: the net is for one that was dropped."""
        me = weakref.ref(self)

        def tell(note: str) -> None:
            backend = me()
            if backend is not None:
                backend._add_notes(note)

        return tell

    @property
    def max_batch(self) -> int | None:
        """As far as the engine's profile goes."""
        free = super().max_batch is None
        return self._runner.range.largest[0] if free and self._runner is not None else super().max_batch

    @property
    def least_batch(self) -> int:
        """As far as the engine's profile goes."""
        runner = self._runner
        return next(iter(runner.range.smallest), 0) if runner is not None else super().least_batch

    def _infer(self, batch: AnyArray) -> RawOutputs:
        with self._turn:
            if self._runner is None:
                raise BackendError(f"{self.request} was closed by another thread")
            return self._runner.run(batch)

    def _close(self) -> None:
        if self._runner is None:
            return
        with self._turn:
            if self._net is not None:
                self._net.detach()
            profiler = self._runner.profiler
            self._runner.close()
            self._runner = None
            self._paths.clear()
        if profiler is not None:
            self._write_profile(profiler)

    def _write_profile(self, profiler: LayerProfiler) -> None:
        try:
            profiler.write(Path(self.settings.profile_to))
        except OSError as error:
            raise BackendError(
                f"{self.request}: the profile cannot be written to {self.settings.profile_to} ({error.strerror})"
            ) from error


def _onnx_beside(model: ModelFile | None, manifest: EngineManifest) -> tuple[Path, str, list[str]]:
    """The ONNX file that a named engine should be of, its hash, and why that could not be had.

    Without such a file in the model it is the one that the engine is of.
    """
    beside = model.artifacts.get(ONNX) if model is not None else None
    if beside is None or not beside.path.is_file():
        return Path(manifest.onnx), manifest.key.onnx_sha256, []
    try:
        return beside.path, onnx_digest(beside.path), []
    except ModelFileError as error:
        # An engine runs without; the weights beside an ONNX may have been left where it was built.
        return beside.path, manifest.key.onnx_sha256, [f"not compared with the ONNX that the model names: {error}"]


def _shares_profile(manifest: EngineManifest | None, trt: TensorRt, *, host_code: bool) -> bool:
    """See EngineRunner. Where it is not known it is not tried: the process would end."""
    if manifest is None:
        # An engine that brings its own runtime may be of a version before those that always share.
        return trt.dialect.profile_sharing == "always" and trt.flavour == "full" and not host_code
    # By another major version it is run by its own or a compatible runtime, of which that is not known.
    same = manifest.key.tensorrt_version.partition(".")[0] == str(trt.version[0])
    return same and manifest.key.shares_profile


def _engine_bytes(engine: Path) -> bytes:
    """What TensorRT is given of an engine file."""
    try:
        return engine.read_bytes()[engine_header_size(engine) :]
    except OSError as error:
        raise BackendError(f"{engine} cannot be read ({error.strerror}): check the file and its permissions") from error
