"""The settings of the backend, and what ONNX Runtime's sessions and providers are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.cuda_frames.driver import compute_capability
from trt_perception.backends.settings import require_stream_count, require_thread_count, require_writable_setting
from trt_perception.backends.tensorrt_runtime.engine_cache import cache_directory
from trt_perception.errors import BackendError, BackendUnavailableError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
AUTO = "auto"
_NHWC = (AUTO, "on", "off")
# With cuDNN 9's graphs (ONNX Runtime 1.20) and TF32 (compute capability 8.0) channels last are the faster layout.
_NHWC_SINCE = (1, 20)
_NHWC_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class OnnxRuntimeSettings:
    """graph_optimization: disable, basic, extended or all. intra_op_threads: threads inside one operator, 0 = one
    a core. inter_op_threads: operators run at once under parallel execution, 0 = ONNX Runtime's choice.
    execution: sequential or parallel. allow_spinning: idle threads wait busily for the next inference. ONNX Runtime's
    own default is to do so; here it is not. On a CPU of two cores with a frame every 33 ms it made an inference 0.1 ms
    faster, cost 20 ms of CPU time a frame, and starved Fast DDS's threads so that images got lost.
    On cuda: device_path: camera bytes become the input tensor, and outputs become boxes, on the GPU. cuda_graph: all
    of that is recorded once and launched as one. streams: frames that may overlap when several are given at once to a
    network with a batch of 1; each takes a further session with the weights in it. prefer_nhwc: on, off, or auto,
    convolutions take channels last; auto: on GPUs with TF32 from ONNX Runtime 1.20 on, unless the frame's network is
    no CUDA graph for that reason alone. tf32: factors of FP32 networks
    are rounded to TF32's ten bits.
    tensorrt_engine_cache: folder in which the TensorRT provider keeps its engines (without one it builds them at each
    start), empty for the user's cache folder. tensorrt_workspace_mib: memory that it may use while it builds, 0 = its
    own limit. profile_to: file for the time of every node, written by close(); empty = not measured, which costs time.
    """

    graph_optimization: str = "all"
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    execution: str = "sequential"
    allow_spinning: bool = False
    device_path: bool = True
    cuda_graph: bool = True
    streams: int = 1
    prefer_nhwc: str = AUTO
    tf32: bool = True
    tensorrt_engine_cache: str = ""
    tensorrt_workspace_mib: int = 0
    profile_to: str = ""

    def __post_init__(self) -> None:
        require_thread_count("onnxruntime", "intra_op_threads", self.intra_op_threads)
        require_thread_count("onnxruntime", "inter_op_threads", self.inter_op_threads)
        require_stream_count("onnxruntime", self.streams)
        _lookup(dict.fromkeys(_NHWC), "prefer_nhwc", self.prefer_nhwc)


@dataclass(frozen=True)
class CudaChoice:
    """How the CUDA provider works. stream: the CUstream that everything runs on, None for one of its own. graph: runs
    on that stream may be recorded.
    """

    device_index: int
    nhwc: bool
    stream: int | None
    graph: bool


def provider_options(
    provider: str, settings: OnnxRuntimeSettings, request: BackendRequest, cuda: CudaChoice
) -> dict[str, str]:
    """ONNX Runtime takes texts, by the names of its documentation."""
    if provider == CPU:
        return {}
    options = {"device_id": str(cuda.device_index)}
    if provider == TENSORRT:
        folder = cache_directory(settings.tensorrt_engine_cache)
        require_writable_setting(request, "tensorrt_engine_cache", folder / "engine")
        options["trt_fp16_enable"] = str(request.precision == "fp16")
        options["trt_engine_cache_enable"] = "True"
        options["trt_engine_cache_path"] = str(folder)
        if settings.tensorrt_workspace_mib > 0:
            options["trt_max_workspace_size"] = str(settings.tensorrt_workspace_mib * 2**20)
        return options
    if cuda.nhwc:  # which versions before 1.17 do not know
        options["prefer_nhwc"] = "1"
    if not settings.tf32:  # which versions before 1.18 do not know
        options["use_tf32"] = "0"
    if cuda.stream is not None:
        options["user_compute_stream"] = str(cuda.stream)
        options["enable_cuda_graph"] = _flag(cuda.graph)
    return options


def prefers_nhwc(settings: OnnxRuntimeSettings, version: tuple[int, ...], device_index: int) -> bool:
    """What the setting means for this version of ONNX Runtime on this GPU."""
    if settings.prefer_nhwc != AUTO:
        return settings.prefer_nhwc == "on"
    try:
        return version >= _NHWC_SINCE and compute_capability(device_index) >= _NHWC_CAPABILITY
    except BackendUnavailableError:  # then the provider does not load either, and says so
        return False


def session_options(ort: Any, settings: OnnxRuntimeSettings, request: BackendRequest) -> Any:
    """onnxruntime.SessionOptions of the settings."""
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
    options = ort.SessionOptions()
    options.graph_optimization_level = _lookup(levels, "graph_optimization", settings.graph_optimization)
    options.execution_mode = _lookup(modes, "execution", settings.execution)
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = settings.inter_op_threads
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", _flag(settings.allow_spinning))
    if settings.profile_to:
        require_writable_setting(request, "profile_to", settings.profile_to)
        options.enable_profiling = True
        options.profile_file_prefix = settings.profile_to
    # Its warnings go to standard error past every logger; a failed load raises, and the provider is read back.
    options.log_severity_level = 3
    return options


def _flag(value: bool) -> str:
    return "1" if value else "0"


def _lookup(table: Mapping[str, Any], setting: str, value: str) -> Any:
    if value not in table:
        raise BackendError(f"setting {setting!r} of onnxruntime is {value!r}; expected one of {', '.join(table)}")
    return table[value]
