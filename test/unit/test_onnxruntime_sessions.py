"""What ONNX Runtime's CUDA provider is told, and what becomes of a model that it cannot make a CUDA graph of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_runtime.library import onnxruntime_part, version_of
from trt_perception.backends.onnxruntime_runtime.options import CPU, CUDA, TENSORRT, OnnxRuntimeSettings
from trt_perception.backends.onnxruntime_runtime.sessions import Sessions
from trt_perception.errors import BackendError

REQUEST = BackendRequest.parse("onnxruntime:cuda:1")
NO_GRAPH = "This session cannot use the graph capture feature as requested by the user"


class CudaOrt:
    """onnxruntime as far as Sessions looks at it; `refuses` says which provider options it does not take, and why."""

    GraphOptimizationLevel = SimpleNamespace(
        ORT_DISABLE_ALL=0, ORT_ENABLE_BASIC=1, ORT_ENABLE_EXTENDED=2, ORT_ENABLE_ALL=99
    )
    ExecutionMode = SimpleNamespace(ORT_SEQUENTIAL=0, ORT_PARALLEL=1)

    def __init__(self, version: str = "1.31.0", refuses: dict[tuple[str, str], str] | None = None) -> None:
        self.__version__ = version
        self._refuses = refuses or {}
        self.asked: list[dict[str, dict[str, str]]] = []
        self.axes: dict[str, int] = {}

    def SessionOptions(self) -> Any:
        return SimpleNamespace(
            add_session_config_entry=lambda *_: None, add_free_dimension_override_by_name=self.axes.__setitem__
        )

    def InferenceSession(self, path: str, *, sess_options: Any, providers: list[tuple[str, dict[str, str]]]) -> str:
        self.asked.append(dict(providers))
        for _, options in providers:
            for refused, why in self._refuses.items():
                if refused in options.items():
                    raise RuntimeError(why)
        return f"session {len(self.asked)}"


def sessions(ort: Any, providers: tuple[str, ...] = (CUDA,), **settings: Any) -> Sessions:
    return Sessions(ort, Path("net.onnx"), REQUEST, OnnxRuntimeSettings(**settings), providers, 1)


def test_stream_graph_and_convolutions_reach_the_cuda_provider() -> None:
    ort = CudaOrt()
    made = sessions(ort, prefer_nhwc=True, cudnn_conv_algo_search="heuristic")
    made.open(4711, {"height": 480})
    assert ort.asked == [
        {
            CUDA: {
                "device_id": "1",
                "prefer_nhwc": "1",
                "cudnn_conv_algo_search": "HEURISTIC",
                "user_compute_stream": "4711",
                "enable_cuda_graph": "1",
            }
        }
    ]
    assert ort.axes == {"height": 480}
    assert made.no_graph_reason is None


def test_without_a_stream_there_is_no_graph_either() -> None:
    ort = CudaOrt()
    sessions(ort).open()
    assert ort.asked == [{CUDA: {"device_id": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"}}]


def test_what_cannot_be_a_graph_runs_without_one_and_says_why() -> None:
    ort = CudaOrt(refuses={("enable_cuda_graph", "1"): f"{NO_GRAPH}\n at inference_session.cc"})
    made = sessions(ort)
    assert made.open(1) == "session 2"
    assert [options[CUDA]["enable_cuda_graph"] for options in ort.asked] == ["1", "0"]
    assert made.no_graph_reason == NO_GRAPH
    made.open(2)
    assert ort.asked[2:] == [{CUDA: {**ort.asked[1][CUDA], "user_compute_stream": "2"}}]


def test_a_file_that_does_not_load_either_way_is_refused() -> None:
    ort = CudaOrt(refuses={("device_id", "1"): "no such operator: Frobnicate"})
    made = sessions(ort)
    with pytest.raises(BackendError, match=r"cannot load net\.onnx: no such operator: Frobnicate"):
        made.open(1)
    assert len(ort.asked) == 2
    assert made.no_graph_reason is None


@pytest.mark.parametrize(
    ("ort", "providers", "settings", "reason"),
    [
        (CudaOrt(), (CUDA,), {"cuda_graph": False}, "switched off by the setting cuda_graph"),
        (CudaOrt("1.17.3"), (CUDA,), {}, "it needs onnxruntime 1.18, this is 1.17.3"),
        (CudaOrt(), (TENSORRT, CUDA), {}, "TensorrtExecutionProvider launches by itself"),
        (CudaOrt(), (CPU,), {}, "CPUExecutionProvider launches by itself"),
    ],
    ids=["setting", "version", "TensorRT", "CPU"],
)
def test_no_graph_is_asked_for_where_there_is_none(
    ort: Any, providers: tuple[str, ...], settings: Any, reason: str, tmp_path: Path
) -> None:
    made = sessions(ort, providers, tensorrt_engine_cache=str(tmp_path), **settings)
    made.open(1)
    assert len(ort.asked) == 1
    assert ort.asked[0].get(CUDA, {}).get("enable_cuda_graph", "0") == "0"
    assert made.no_graph_reason == reason


@pytest.mark.parametrize("wait", [True, False])
def test_a_run_makes_no_graph_of_its_own_and_waits_only_if_told(wait: bool) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = sessions(ort).run_options(wait=wait)
    assert options.get_run_config_entry("gpu_graph_id") == "-1"
    if wait:
        with pytest.raises(RuntimeError):
            options.get_run_config_entry("disable_synchronize_execution_providers")
    else:
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"


def test_versions_are_numbers() -> None:
    assert version_of(SimpleNamespace(__version__="1.9.0")) < version_of(SimpleNamespace(__version__="1.18.0rc1"))
    assert version_of(onnxruntime_part()) >= (1, 16)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("streams", 0, "'streams' of onnxruntime is 0; give 1 to 16"),
        ("streams", 17, "'streams' of onnxruntime is 17"),
        ("cudnn_conv_algo_search", "EXHAUSTIVE", "expected one of default, heuristic, exhaustive"),
        ("prefer_nhwc", 1, "expected bool"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: Any, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        OnnxRuntimeBackend(REQUEST, Path("net.onnx"), settings={setting: value})
