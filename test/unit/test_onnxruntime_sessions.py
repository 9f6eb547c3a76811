"""What ONNX Runtime's CUDA provider is told, and what becomes of a model that it cannot make a CUDA graph of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_runtime import options
from trt_perception.backends.onnxruntime_runtime.library import onnxruntime_part, version_of
from trt_perception.backends.onnxruntime_runtime.options import (
    CPU,
    CUDA,
    TENSORRT,
    OnnxRuntimeSettings,
    prefers_nhwc,
)
from trt_perception.backends.onnxruntime_runtime.sessions import Sessions
from trt_perception.errors import BackendError, BackendUnavailableError

onnx: Any = pytest.importorskip("onnx", reason="the onnx package makes the test's networks")
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

    def SessionOptions(self) -> Any:
        return SimpleNamespace(add_session_config_entry=lambda *_: None)

    def InferenceSession(self, path: str, *, sess_options: Any, providers: list[tuple[str, dict[str, str]]]) -> str:
        self.asked.append(dict(providers))
        for _, told in providers:
            for refused, why in self._refuses.items():
                if refused in told.items():
                    raise RuntimeError(why)
        return f"session {len(self.asked)}"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write(tmp_path / "net.onnx", "Relu")


def write(path: Path, *operators: str) -> Path:
    """A graph with these operators and nothing else, the last inside a branch of the one before."""
    nodes = [onnx.helper.make_node(name, ["x"], ["x"]) for name in operators]
    if len(nodes) > 1:
        nodes[-2].attribute.append(
            onnx.helper.make_attribute("then", onnx.helper.make_graph([nodes.pop()], "b", [], []))
        )
    path.write_bytes(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [])).SerializeToString())
    return path


def sessions(ort: Any, artifact: Path, providers: tuple[str, ...] = (CUDA,), **settings: Any) -> Sessions:
    return Sessions(ort, artifact, REQUEST, OnnxRuntimeSettings(**settings), providers, 1)


def test_stream_graph_and_layout_reach_the_cuda_provider(artifact: Path) -> None:
    ort = CudaOrt()
    made = sessions(ort, artifact, prefer_nhwc="on", tf32=False)
    made.open(4711)
    assert ort.asked == [
        {
            CUDA: {
                "device_id": "1",
                "prefer_nhwc": "1",
                "use_tf32": "0",
                "user_compute_stream": "4711",
                "enable_cuda_graph": "1",
            }
        }
    ]
    assert made.no_graph_reason is None
    assert (made.device, made.device_index, made.on_stream) == ("cuda", 1, True)


def test_without_a_stream_there_is_no_graph_either(artifact: Path) -> None:
    ort = CudaOrt()
    sessions(ort, artifact, prefer_nhwc="off").open()
    assert ort.asked == [{CUDA: {"device_id": "1"}}]


def test_tensorrt_keeps_its_own_stream(artifact: Path, tmp_path: Path) -> None:
    ort = CudaOrt()
    made = sessions(ort, artifact, (TENSORRT, CUDA), tensorrt_engine_cache=str(tmp_path))
    made.open(4711)
    assert not any("stream" in name for options in ort.asked[0].values() for name in options)
    assert not made.on_stream


@pytest.mark.parametrize(
    ("setting", "version", "capability", "expected"),
    [
        ("auto", (1, 31), (9, 0), True),
        ("auto", (1, 20), (8, 0), True),
        ("auto", (1, 19), (9, 0), False),
        ("auto", (1, 31), (7, 5), False),
        ("auto", (1, 31), None, False),
        ("on", (1, 17), (7, 2), True),
        ("off", (1, 31), (9, 0), False),
    ],
)
def test_channels_last_where_they_are_faster(
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    version: tuple[int, int],
    capability: tuple[int, int] | None,
    expected: bool,
) -> None:
    def compute_capability(index: int) -> tuple[int, int]:
        assert index == 1
        if capability is None:
            raise BackendUnavailableError("there is no NVIDIA driver here")
        return capability

    monkeypatch.setattr(options, "compute_capability", compute_capability)
    assert prefers_nhwc(OnnxRuntimeSettings(prefer_nhwc=setting), version, 1) == expected


def test_what_cannot_be_a_graph_runs_without_one_and_says_why(artifact: Path) -> None:
    ort = CudaOrt(refuses={("enable_cuda_graph", "1"): f"{NO_GRAPH}\n at inference_session.cc"})
    made = sessions(ort, artifact)
    assert made.open(1) == "session 2"
    assert [options[CUDA]["enable_cuda_graph"] for options in ort.asked] == ["1", "0"]
    assert made.no_graph_reason == NO_GRAPH
    made.open(2)
    assert ort.asked[2:] == [{CUDA: {**ort.asked[1][CUDA], "user_compute_stream": "2"}}]


def asked_for(ort: CudaOrt) -> list[tuple[bool, ...]]:
    """(channels last, graph) of every session that was asked for."""
    return [tuple(told[CUDA].get(name) == "1" for name in ("prefer_nhwc", "enable_cuda_graph")) for told in ort.asked]


class NoGraphWithChannelsLast(CudaOrt):
    def InferenceSession(self, path: str, *, sess_options: Any, providers: list[tuple[str, dict[str, str]]]) -> str:
        session = super().InferenceSession(path, sess_options=sess_options, providers=providers)
        if {("prefer_nhwc", "1"), ("enable_cuda_graph", "1")} <= dict(providers)[CUDA].items():
            raise RuntimeError(NO_GRAPH)
        return session


def test_a_graph_counts_more_than_the_layout(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "compute_capability", lambda _: (9, 0))
    ort = NoGraphWithChannelsLast()
    made = sessions(ort, artifact)
    for stream in (1, 2):
        made.open(stream)
    assert asked_for(ort) == [(True, True), (False, True), (False, True)]
    assert made.no_graph_reason is None


def test_a_layout_that_was_asked_for_stays(artifact: Path) -> None:
    ort = NoGraphWithChannelsLast()
    made = sessions(ort, artifact, prefer_nhwc="on")
    made.open(1)
    assert asked_for(ort) == [(True, True), (True, False)]
    assert made.no_graph_reason == NO_GRAPH


def test_what_is_no_graph_in_any_layout_keeps_the_faster_one(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "compute_capability", lambda _: (9, 0))
    ort = CudaOrt(refuses={("enable_cuda_graph", "1"): NO_GRAPH})
    made = sessions(ort, artifact)
    made.open(1)
    made.open(2)
    assert asked_for(ort) == [(True, True), (False, True), (True, False), (True, False)]
    assert made.no_graph_reason == NO_GRAPH


def test_a_file_that_does_not_load_either_way_is_refused(artifact: Path) -> None:
    ort = CudaOrt(refuses={("device_id", "1"): "no such operator: Frobnicate"})
    made = sessions(ort, artifact)
    with pytest.raises(BackendError, match=r"cannot load .*net\.onnx: no such operator: Frobnicate"):
        made.open(1)
    assert len(ort.asked) == 2
    assert made.no_graph_reason is None


@pytest.mark.parametrize(
    ("version", "providers", "settings", "reason"),
    [
        ("1.31.0", (CUDA,), {"cuda_graph": False}, "switched off by the setting cuda_graph"),
        ("1.17.3", (CUDA,), {}, "it needs onnxruntime 1.18, this is 1.17.3"),
        ("1.31.0", (TENSORRT, CUDA), {}, "TensorrtExecutionProvider launches by itself"),
        ("1.31.0", (CPU,), {}, "CPUExecutionProvider launches by itself"),
    ],
    ids=["setting", "version", "TensorRT", "CPU"],
)
def test_no_graph_is_asked_for_where_there_is_none(
    version: str, providers: tuple[str, ...], settings: Any, reason: str, artifact: Path, tmp_path: Path
) -> None:
    ort = CudaOrt(version)
    made = sessions(ort, artifact, providers, tensorrt_engine_cache=str(tmp_path), **settings)
    made.open(1)
    assert len(ort.asked) == 1
    assert ort.asked[0].get(CUDA, {}).get("enable_cuda_graph", "0") == "0"
    assert made.no_graph_reason == reason


@pytest.mark.parametrize("operators", [("NonZero",), ("If", "NonMaxSuppression"), ("function", "Compress")], ids=str)
def test_a_network_that_counts_is_not_recorded(tmp_path: Path, operators: tuple[str, ...]) -> None:
    ort, path = CudaOrt(), tmp_path / "net.onnx"
    if operators[0] == "function":
        node = onnx.helper.make_node(operators[-1], ["x"], ["y"])
        function = onnx.helper.make_function("own", "f", ["x"], ["y"], [node], [])
        path.write_bytes(onnx.ModelProto(functions=[function]).SerializeToString())
    else:
        write(path, *operators)
    made = sessions(ort, path)
    made.open(1)
    assert made.no_graph_reason == f"the network counts while it runs ({operators[-1]})"
    assert [asked[CUDA]["enable_cuda_graph"] for asked in ort.asked] == ["0"]


@pytest.mark.parametrize("wait", [True, False])
def test_a_run_makes_no_graph_of_its_own_and_waits_only_if_told(wait: bool, artifact: Path) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    told = sessions(ort, artifact).run_options(wait=wait)
    assert told.get_run_config_entry("gpu_graph_id") == "-1"
    if wait:
        with pytest.raises(RuntimeError):
            told.get_run_config_entry("disable_synchronize_execution_providers")
    else:
        assert told.get_run_config_entry("disable_synchronize_execution_providers") == "1"


def test_versions_are_numbers() -> None:
    assert version_of(SimpleNamespace(__version__="1.9.0")) < version_of(SimpleNamespace(__version__="1.18.0rc1"))
    assert version_of(onnxruntime_part()) >= (1, 16)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("streams", 0, "'streams' of onnxruntime is 0; give 1 to 16"),
        ("streams", 17, "'streams' of onnxruntime is 17"),
        ("prefer_nhwc", "yes", "'prefer_nhwc' of onnxruntime is 'yes'; expected one of auto, on, off"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: Any, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        OnnxRuntimeBackend(REQUEST, Path("net.onnx"), settings={setting: value})
