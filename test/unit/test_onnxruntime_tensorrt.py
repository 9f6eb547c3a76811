"""ONNX Runtime's TensorRT provider: which options it gets, and that nothing else may run in its place unasked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import onnxruntime_backend
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_runtime.library import onnxruntime_part
from trt_perception.errors import BackendError, BackendUnavailableError, DeviceMismatchError

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


class FakeOrt:
    """onnxruntime with the providers it was built with, and those that a session then really has."""

    __version__ = "1.31.0"
    GraphOptimizationLevel = SimpleNamespace(
        ORT_DISABLE_ALL=0, ORT_ENABLE_BASIC=1, ORT_ENABLE_EXTENDED=2, ORT_ENABLE_ALL=99
    )
    ExecutionMode = SimpleNamespace(ORT_SEQUENTIAL=0, ORT_PARALLEL=1)

    def __init__(self, built_with: list[str], running: list[str]) -> None:
        self._built_with, self._running = built_with, running
        self.asked: list[tuple[str, dict[str, str]]] = []

    def set_default_logger_severity(self, level: int) -> None:
        assert level == 3

    def get_available_providers(self) -> list[str]:
        return self._built_with

    def SessionOptions(self) -> Any:
        return SimpleNamespace(add_session_config_entry=lambda *_: None)

    def InferenceSession(self, path: str, *, sess_options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        self.asked = providers
        tensor = SimpleNamespace(name="images", type="tensor(float)", shape=[1, 3, 8, 8])
        return SimpleNamespace(
            get_providers=lambda: self._running,
            get_inputs=lambda: [tensor],
            get_outputs=lambda: [tensor],
            get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={}),
        )


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08")  # ir_version 8, and nothing else
    return path


def opened(
    monkeypatch: pytest.MonkeyPatch, ort: FakeOrt, onnx: Path, request: str, *, allow_fallback: bool = False, **s: Any
) -> OnnxRuntimeBackend:
    monkeypatch.setattr(onnxruntime_backend, "onnxruntime_part", lambda: ort)
    backend = OnnxRuntimeBackend(BackendRequest.parse(request), onnx, allow_fallback=allow_fallback, settings=s)
    backend.open()
    return backend


def test_fp16_cache_and_workspace_reach_the_provider(
    monkeypatch: pytest.MonkeyPatch, onnx: Path, tmp_path: Path
) -> None:
    ort = FakeOrt([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    cache = tmp_path / "cache"
    backend = opened(
        monkeypatch,
        ort,
        onnx,
        "onnxruntime:tensorrt:1:fp16",
        tensorrt_engine_cache=str(cache),
        tensorrt_workspace_mib=512,
    )
    assert ort.asked == [
        (
            TENSORRT,
            {
                "device_id": "1",
                "trt_fp16_enable": "True",
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": str(cache),
                "trt_max_workspace_size": str(512 * 2**20),
            },
        ),
        (CUDA, {"device_id": "1"}),
    ]
    assert cache.is_dir()
    assert (backend.info.provider, backend.info.device, backend.info.precision) == (TENSORRT, "cuda:1", "fp16")


def test_without_a_precision_it_is_fp32(monkeypatch: pytest.MonkeyPatch, onnx: Path, tmp_path: Path) -> None:
    ort = FakeOrt([TENSORRT, CPU], [TENSORRT, CPU])
    backend = opened(monkeypatch, ort, onnx, "onnxruntime:tensorrt", tensorrt_engine_cache=str(tmp_path))
    assert [name for name, _ in ort.asked] == [TENSORRT]
    assert ort.asked[0][1]["trt_fp16_enable"] == "False"
    assert "trt_max_workspace_size" not in ort.asked[0][1]
    assert backend.info.precision == "fp32"


@pytest.mark.parametrize(("running", "device"), [([CPU], "cpu"), ([CUDA, CPU], "cuda")])
def test_what_runs_instead_is_refused(
    monkeypatch: pytest.MonkeyPatch, onnx: Path, tmp_path: Path, running: list[str], device: str
) -> None:
    """Without libnvinfer ONNX Runtime only prints an error and goes on elsewhere, ten times slower."""
    ort = FakeOrt([TENSORRT, CUDA, CPU], running)
    with pytest.raises(DeviceMismatchError, match=rf"runs on {device} instead of tensorrt.*libnvinfer"):
        opened(monkeypatch, ort, onnx, "onnxruntime:tensorrt", tensorrt_engine_cache=str(tmp_path))
    backend = opened(
        monkeypatch, ort, onnx, "onnxruntime:tensorrt", allow_fallback=True, tensorrt_engine_cache=str(tmp_path)
    )
    assert "libnvinfer" in str(backend.info.fallback_reason)
    assert backend.info.device.startswith(device)


def test_a_build_without_the_provider_is_refused(monkeypatch: pytest.MonkeyPatch, onnx: Path) -> None:
    with pytest.raises(DeviceMismatchError, match=rf"built without {TENSORRT}.*onnxruntime-gpu"):
        opened(monkeypatch, FakeOrt([CPU], [CPU]), onnx, "onnxruntime:tensorrt")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_precision_is_for_tensorrt_alone(monkeypatch: pytest.MonkeyPatch, onnx: Path, device: str) -> None:
    with pytest.raises(BackendError, match="onnxruntime:tensorrt:fp16"):
        opened(monkeypatch, FakeOrt([CPU], [CPU]), onnx, f"onnxruntime:{device}:fp16")


def test_a_missing_part_says_what_to_install() -> None:
    with pytest.raises(BackendUnavailableError, match="pip install onnxruntime onnx"):
        onnxruntime_part("no_such_part")
