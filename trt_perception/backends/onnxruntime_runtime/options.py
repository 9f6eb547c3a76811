"""The settings of the backend, and what ONNX Runtime's sessions and providers are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.base import require_stream_count, require_thread_count, require_writable_setting
from trt_perception.backends.tensorrt_runtime.engine_cache import cache_directory
from trt_perception.errors import BackendError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
# ONNX Runtime's names of how cuDNN's algorithms for convolutions are chosen.
_CONV_SEARCHES = {"default": "DEFAULT", "heuristic": "HEURISTIC", "exhaustive": "EXHAUSTIVE"}


@dataclass(frozen=True)
class OnnxRuntimeSettings:
    """graph_optimization: disable, basic, extended or all. intra_op_threads: threads inside one operator, 0 = one
    a core. inter_op_threads: operators run at once under parallel execution, 0 = ONNX Runtime's choice.
    execution: sequential or parallel. allow_spinning: idle threads wait busily for the next inference. ONNX Runtime's
    own default is to do so; here it is not. On a CPU of two cores with a frame every 33 ms it made an inference 0.1 ms
    faster, cost 20 ms of CPU time a frame, and starved Fast DDS's threads so that images got lost.
    On cuda: device_path: camera bytes become the input tensor, and outputs become boxes, on the GPU. cuda_graph: all
    of that is recorded once and launched as one. streams: frames that may overlap when several are given at once to a
    network with a batch of 1; each takes a further session with the weights in it. prefer_nhwc: convolutions take
    channels last. cudnn_conv_algo_search: default, heuristic, or exhaustive, which times them on the first frame.
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
    prefer_nhwc: bool = False
    cudnn_conv_algo_search: str = "exhaustive"
    tensorrt_engine_cache: str = ""
    tensorrt_workspace_mib: int = 0
    profile_to: str = ""

    def __post_init__(self) -> None:
        require_thread_count("onnxruntime", "intra_op_threads", self.intra_op_threads)
        require_thread_count("onnxruntime", "inter_op_threads", self.inter_op_threads)
        require_stream_count("onnxruntime", self.streams)
        _lookup(_CONV_SEARCHES, "cudnn_conv_algo_search", self.cudnn_conv_algo_search)


def provider_options(
    provider: str,
    device_index: int,
    settings: OnnxRuntimeSettings,
    request: BackendRequest,
    *,
    stream: int | None,
    graph: bool,
) -> dict[str, str]:
    """ONNX Runtime takes texts, by the names of its documentation; stream and graph are for the CUDA provider alone.

    stream: the CUstream that everything runs on, None for one of its own. graph: runs may be recorded.
    """
    if provider == CPU:
        return {}
    options = {"device_id": str(device_index)}
    if provider == TENSORRT:
        folder = cache_directory(settings.tensorrt_engine_cache)
        require_writable_setting(request, "tensorrt_engine_cache", folder / "engine")
        options["trt_fp16_enable"] = str(request.precision == "fp16")
        options["trt_engine_cache_enable"] = "True"
        options["trt_engine_cache_path"] = str(folder)
        if settings.tensorrt_workspace_mib > 0:
            options["trt_max_workspace_size"] = str(settings.tensorrt_workspace_mib * 2**20)
        return options
    if settings.prefer_nhwc:  # which versions before 1.17 do not know
        options["prefer_nhwc"] = "1"
    options["cudnn_conv_algo_search"] = _CONV_SEARCHES[settings.cudnn_conv_algo_search]
    if stream is not None:
        options["user_compute_stream"] = str(stream)
        options["enable_cuda_graph"] = _flag(graph)
    return options


def session_options(
    ort: Any, settings: OnnxRuntimeSettings, request: BackendRequest, axes: Mapping[str, int] | None = None
) -> Any:
    """axes: sizes of the input's free axes by their names, which makes the outputs' known as well."""
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
    for name, size in (axes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
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
