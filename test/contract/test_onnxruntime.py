"""What only ONNX Runtime has: settings of its session, and networks that are no detector."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from test.contract.small_network import write_onnx
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import onnxruntime_backend
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_runtime.options import CPU, CUDA, TENSORRT
from trt_perception.errors import BackendError

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
ort: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def make(path: Path, **settings: Any) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(BackendRequest("onnxruntime", "cpu"), path, settings=settings)


def write_identity(path: Path, element_type: int, inputs: int = 1) -> Path:
    names = [f"input{i}" for i in range(inputs)]
    values = [onnx.helper.make_tensor_value_info(name, element_type, ["batch", 3, 4, 4]) for name in names]
    output = onnx.helper.make_tensor_value_info("output0", element_type, ["batch", 3, 4, 4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", names[:1], ["output0"])], "g", values, [output])
    opset = [onnx.helper.make_opsetid("", 17)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    return path


def test_settings_reach_the_session(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_onnx(path)
    settings = {"graph_optimization": "basic", "execution": "parallel", "intra_op_threads": 1, "inter_op_threads": 2}
    with make(path, allow_spinning=False, **settings) as backend:
        assert backend._session is not None
        options = backend._session.get_session_options()
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 2)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("name", "dtype"), [("FLOAT16", np.float16), ("UINT8", np.uint8), ("DOUBLE", np.float64), ("INT32", np.int32)]
)
def test_element_types_have_numpys_names(tmp_path: Path, name: str, dtype: Any) -> None:
    path = write_identity(tmp_path / "net.onnx", getattr(onnx.TensorProto, name))
    tensor = np.arange(48).reshape(1, 3, 4, 4).astype(dtype)
    with make(path) as backend:
        assert backend.info.inputs[0].dtype == np.dtype(dtype).name
        assert backend.info.inputs[0].shape == (None, 3, 4, 4)
        (array,) = backend.infer(tensor).arrays
    np.testing.assert_array_equal(array, tensor)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    backend = make(write_identity(tmp_path / "net.onnx", onnx.TensorProto.FLOAT, inputs=2))
    with pytest.raises(BackendError, match=r"has 2 inputs .*; a detector's network takes one image tensor"):
        backend.open()
    assert not backend.is_open


@pytest.mark.parametrize("name", ["STRING", "BFLOAT16"])
def test_an_input_that_numpy_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    backend = make(write_identity(tmp_path / "net.onnx", getattr(onnx.TensorProto, name)))
    with pytest.raises(BackendError, match="takes one image tensor of type float32, float16"):
        backend.open()
    assert not backend.is_open


def test_cuda_in_tensorrts_place_runs_as_cuda_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that says so is the real one on the processor, which is all that there is here."""
    path = write_identity(tmp_path / "net.onnx", onnx.TensorProto.FLOAT)
    asked: list[list[str]] = []

    def session(path: str, *, sess_options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        asked.append([name for name, _ in providers])
        real = ort.InferenceSession(path, sess_options=sess_options, providers=[CPU])
        names = ("get_inputs", "get_outputs", "get_modelmeta", "run")
        return SimpleNamespace(get_providers=lambda: [CUDA, CPU], **{name: getattr(real, name) for name in names})

    stand_in = SimpleNamespace(**{name: getattr(ort, name) for name in dir(ort) if not name.startswith("_")})
    stand_in.__version__ = ort.__version__
    stand_in.get_available_providers = lambda: [TENSORRT, CUDA, CPU]
    stand_in.InferenceSession = session
    monkeypatch.setattr(onnxruntime_backend, "onnxruntime_part", lambda: stand_in)
    monkeypatch.setattr(onnxruntime_backend, "load_cuda_libraries", lambda _: None)
    monkeypatch.setattr(onnxruntime_backend, "_cuda_device_name", lambda _: "a GPU")
    with OnnxRuntimeBackend(BackendRequest.parse("onnxruntime:tensorrt"), path, allow_fallback=True) as backend:
        assert backend.info.fallback_reason is not None and f"took {CUDA}" in backend.info.fallback_reason
        assert (backend.info.provider, backend.info.device) == (CUDA, "cuda:0")
        assert asked == [[TENSORRT, CUDA], [CUDA]]
        assert backend._sessions.on_stream
