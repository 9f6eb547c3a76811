"""ONNX Runtime: on the CPU, or on an NVIDIA GPU through its CUDA or its TensorRT provider."""

from __future__ import annotations

import contextlib
import importlib
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trt_perception.backends.base import (
    Backend,
    BackendInfo,
    RawOutputs,
    require_thread_count,
    require_writable_setting,
)
from trt_perception.backends.bound_session import BoundSession
from trt_perception.backends.frame_path import FramePath, FramePlan
from trt_perception.backends.hardware import cpu_name
from trt_perception.backends.onnxruntime_frame_path import OnDevice, OnnxRuntimeFramePath
from trt_perception.backends.tensorrt_runtime.engine_cache import cache_directory
from trt_perception.errors import BackendError, BackendUnavailableError, ModelFileError
from trt_perception.external_data import external_files
from trt_perception.telemetry import decline_telemetry
from trt_perception.types import AnyArray, TensorSpec

if TYPE_CHECKING:
    import onnxruntime

# ONNX's element types as the session names them, and NumPy's names for the same.
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_CPU, _TENSORRT = "CPUExecutionProvider", "TensorrtExecutionProvider"
# Device → the provider that runs there, and those that take over the nodes it cannot run.
_PROVIDERS = {
    "cpu": (_CPU,),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": (_TENSORRT, "CUDAExecutionProvider"),
}
_DEVICE_OF = {providers[0]: device for device, providers in _PROVIDERS.items()}
_REMEDIES = {
    "CUDAExecutionProvider": "its libraries (CUDA and cuDNN of the versions that this onnxruntime was built for) are "
    "missing or do not match the driver",
    _TENSORRT: "its libraries (libnvinfer of the TensorRT version that this onnxruntime was built "
    "for, CUDA and cuDNN) are missing or do not match the driver: `pip install tensorrt` and put its folder into "
    "LD_LIBRARY_PATH",
}


@dataclass(frozen=True)
class OnnxRuntimeSettings:
    """graph_optimization: disable, basic, extended or all. intra_op_threads: threads inside one operator, 0 = one
    a core. inter_op_threads: operators run at once under parallel execution, 0 = ONNX Runtime's choice.
    execution: sequential or parallel. allow_spinning: idle threads wait busily for the next inference. ONNX Runtime's
    own default is to do so; here it is not. On a CPU of two cores with a frame every 33 ms it made an inference 0.1 ms
    faster, cost 20 ms of CPU time a frame, and starved Fast DDS's threads so that images got lost.
    tensorrt_engine_cache: folder in which the TensorRT provider keeps its engines (without one it builds them at each
    start), empty for the user's cache folder. tensorrt_workspace_mib: memory that it may use while it builds, 0 = its
    own limit. profile_to: file for the time of every node, written by close(); empty = not measured, which costs time.
    """

    graph_optimization: str = "all"
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    execution: str = "sequential"
    allow_spinning: bool = False
    tensorrt_engine_cache: str = ""
    tensorrt_workspace_mib: int = 0
    profile_to: str = ""

    def __post_init__(self) -> None:
        require_thread_count("onnxruntime", "intra_op_threads", self.intra_op_threads)
        require_thread_count("onnxruntime", "inter_op_threads", self.inter_op_threads)


class OnnxRuntimeBackend(Backend):
    """Runs an ONNX file; the provider that really loaded is read back from the session."""

    name: ClassVar[str] = "onnxruntime"
    artifact_kind: ClassVar[str] = "onnx"
    devices: ClassVar[tuple[str, ...]] = tuple(_PROVIDERS)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    Settings = OnnxRuntimeSettings
    path_settings: ClassVar[tuple[str, ...]] = ("tensorrt_engine_cache", "profile_to")

    _session: onnxruntime.InferenceSession | None = None
    _bound: BoundSession | None = None
    _frame_path: OnnxRuntimeFramePath | None = None

    def _open(self) -> BackendInfo:
        ort = onnxruntime_part()
        kind = self.device.split(":")[0]
        if self.request.precision is not None and kind != "tensorrt":
            raise BackendError(
                f"{self.request}: on {kind} the precision is the model's own; leave it out, or ask for "
                f"{self.name}:tensorrt:{self.request.precision}"
            )
        provider, *helpers = _PROVIDERS[kind]
        if provider != _CPU:
            load_cuda_libraries(ort)
        available = ort.get_available_providers()
        fallback_reason: str | None = None
        if provider not in available:
            fallback_reason = self._refuse_or_note_fallback(
                "cpu",
                f"this onnxruntime was built without {provider} (it has {', '.join(available)}); "
                "install onnxruntime-gpu in place of onnxruntime",
            )
            provider, helpers = _CPU, []
        session = self._load(ort, provider, [helper for helper in helpers if helper in available])
        actual = session.get_providers()[0]
        if actual != provider:
            fallback_reason = self._refuse_or_note_fallback(
                _DEVICE_OF.get(actual, "cpu"),
                f"{provider} did not load and ONNX Runtime took {actual}; {_REMEDIES[provider]}",
            )
        self._session = session
        on_cpu = actual == _CPU
        device = "cpu" if on_cpu else f"cuda:{self.device_index}"
        try:
            inputs = tuple(_spec(entry) for entry in session.get_inputs())
            outputs = tuple(_spec(entry) for entry in session.get_outputs())
            metadata = dict(session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise BackendError(f"{self.artifact} holds names that are not UTF-8 ({error}); export it again") from error
        if len(inputs) != 1 or inputs[0].dtype not in _DTYPES.values():
            raise BackendError(
                f"{self.artifact} has {len(inputs)} inputs ({'; '.join(map(str, inputs))}); a detector's network "
                f"takes one image tensor of type {', '.join(_DTYPES.values())}"
            )
        self._input_name = inputs[0].name
        self._output_names = [spec.name for spec in outputs]
        # What another device computes is copied to wherever ONNX Runtime wants it.
        self._bound = BoundSession(session, outputs) if on_cpu else None
        return BackendInfo(
            backend=self.name,
            requested=str(self.request),
            device=device,
            device_name=cpu_name() if on_cpu else _cuda_device_name(self.device_index),
            provider=actual,
            precision=_precision(inputs[0].dtype, self.request.precision if actual == _TENSORRT else None),
            library=f"onnxruntime {ort.__version__}",
            inputs=inputs,
            outputs=outputs,
            metadata=metadata,
            fallback_reason=fallback_reason,
        )

    def _load(self, ort: Any, provider: str, helpers: list[str]) -> onnxruntime.InferenceSession:
        try:
            external_files(self.artifact)
        except ModelFileError as error:
            raise BackendError(f"{self.request}: {error}") from error
        options = self._session_options(ort)
        providers = [(name, self._provider_options(name)) for name in (provider, *helpers)]
        try:
            return ort.InferenceSession(str(self.artifact), sess_options=options, providers=providers)
        except Exception as error:  # the library's exceptions derive from nothing narrower
            raise BackendError(
                f"onnxruntime {ort.__version__} cannot load {self.artifact}: {_first_line(error)}; check the file "
                "with `trt-perception inspect` or export it again with an opset that this version knows"
            ) from error

    def _provider_options(self, provider: str) -> dict[str, str]:
        """ONNX Runtime takes texts; the TensorRT provider's names are those of its documentation."""
        options = {} if provider == _CPU else {"device_id": str(self.device_index)}
        if provider != _TENSORRT:
            return options
        settings: OnnxRuntimeSettings = self.settings
        folder = cache_directory(settings.tensorrt_engine_cache)
        require_writable_setting(self.request, "tensorrt_engine_cache", folder / "engine")
        options["trt_fp16_enable"] = str(self.request.precision == "fp16")
        options["trt_engine_cache_enable"] = "True"
        options["trt_engine_cache_path"] = str(folder)
        if settings.tensorrt_workspace_mib > 0:
            options["trt_max_workspace_size"] = str(settings.tensorrt_workspace_mib * 2**20)
        return options

    def _session_options(self, ort: Any) -> Any:
        levels = {
            "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
            "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
            "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
            "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        }
        modes = {
            "sequential": ort.ExecutionMode.ORT_SEQUENTIAL,
            "parallel": ort.ExecutionMode.ORT_PARALLEL,
        }
        settings: OnnxRuntimeSettings = self.settings
        options = ort.SessionOptions()
        options.graph_optimization_level = _lookup(levels, "graph_optimization", settings.graph_optimization)
        options.execution_mode = _lookup(modes, "execution", settings.execution)
        options.intra_op_num_threads = settings.intra_op_threads
        options.inter_op_num_threads = settings.inter_op_threads
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "1" if settings.allow_spinning else "0")
        if settings.profile_to:
            require_writable_setting(self.request, "profile_to", settings.profile_to)
            options.enable_profiling = True
            options.profile_file_prefix = settings.profile_to
        # Its warnings go to standard error past every logger; a failed load raises, and the provider is read back.
        options.log_severity_level = 3
        return options

    def frame_path(self, plan: FramePlan) -> FramePath | str | None:
        """See Backend.frame_path."""
        if self.info.device == "cpu":
            return None
        settings: OnnxRuntimeSettings = self.settings
        if settings.profile_to:
            return "a profile is taken, which is of the network's nodes alone"
        if self.info.inputs[0].dtype != "float32":
            return f"the network takes {self.info.inputs[0]}; the graphs around it are for float32"
        self._frame_path = self.make_frame_path(plan, "CUDAExecutionProvider", "cuda")
        return self._frame_path

    def make_frame_path(self, plan: FramePlan, provider: str, device: str) -> OnnxRuntimeFramePath:
        """The short way on that device of ONNX Runtime's; raises BackendError where its graphs do not load."""
        ort = onnxruntime_part()

        def open_graph(path: Path) -> Any:
            options = self._session_options(ort)
            return ort.InferenceSession(str(path), options, providers=[(provider, self._provider_options(provider))])

        def copy_of(array: AnyArray) -> Any:
            return ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), device, self.device_index)

        try:
            on_device = OnDevice(copy_of, open_graph, device, self.device_index)
            return OnnxRuntimeFramePath(self._session, on_device, plan)
        except Exception as error:  # as in _load
            raise BackendError(f"{self.request} cannot prepare frames on {device}: {_first_line(error)}") from error

    def _infer(self, batch: AnyArray) -> RawOutputs:
        assert self._session is not None
        start_ns = time.monotonic_ns()
        try:
            if self._bound is not None:
                arrays = self._bound.run(batch)
            else:
                outputs = self._session.run(self._output_names, {self._input_name: batch})
                arrays = tuple(np.asarray(output) for output in outputs)
        except Exception as error:  # as in _load
            raise BackendError(f"{self.request} failed while running {self.artifact}: {_first_line(error)}") from error
        inference_ns = time.monotonic_ns() - start_ns
        return RawOutputs(arrays, start_ns, inference_ns)

    def _close(self) -> None:
        path, self._frame_path = self._frame_path, None
        if path is not None:
            path.close()
        self._bound = None
        session, self._session = self._session, None
        if session is not None and self.settings.profile_to:
            # The library adds the date to the name.
            written = Path(session.end_profiling())
            try:
                written.replace(self.settings.profile_to)
            except OSError as error:
                raise BackendError(
                    f"{self.request}: the profile cannot be written to {self.settings.profile_to} ({error.strerror})"
                ) from error


def onnxruntime_part(part: str = "") -> Any:
    """onnxruntime, or one of its modules (`quantization`); raises BackendUnavailableError that says what to install."""
    decline_telemetry()
    try:
        import onnxruntime

        return importlib.import_module(f"onnxruntime.{part}") if part else onnxruntime
    except ImportError as error:
        extra = " onnx" if part else ""
        raise BackendUnavailableError(
            f"onnxruntime{'.' if part else ''}{part} cannot be imported ({error}); install it with "
            f"`pip install onnxruntime{extra}`, for a GPU `pip install onnxruntime-gpu{extra}`"
        ) from error


def load_cuda_libraries(ort: Any) -> None:
    """Loads CUDA and cuDNN from NVIDIA's Python packages, where they are installed; nothing else finds them there.

    Whether the provider then loads is read back from the session, so what this function of onnxruntime's (1.21 and
    newer) prints about what it does not find is left out.
    """
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def _precision(input_dtype: str, asked: str | None) -> str:
    return asked or {"float16": "fp16"}.get(input_dtype, "fp32")


def _lookup(table: dict[str, Any], setting: str, value: str) -> Any:
    if value not in table:
        raise BackendError(f"setting {setting!r} of onnxruntime is {value!r}; expected one of {', '.join(table)}")
    return table[value]


def _spec(entry: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in entry.shape)
    return TensorSpec(entry.name, _DTYPES.get(entry.type, entry.type), shape)


def _cuda_device_name(index: int) -> str:
    """The driver's own list of GPUs, in the order of nvidia-smi."""
    from trt_perception.backends.nvidia_smi import gpu_name

    return gpu_name(index)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
