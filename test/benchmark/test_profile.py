"""`trt-perception profile`: layers of the real libraries, and traces worked out by hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from test.commands import trt_perception
from trt_perception.backends.tensorrt_runtime.layer_profiler import LayerProfiler
from trt_perception.benchmark.layers import layer_times
from trt_perception.benchmark.pictures import gather_pictures
from trt_perception.benchmark.profile_run import profile
from trt_perception.errors import BackendError
from trt_perception.models import load_model


def event(name: str, start: float, duration: float, category: str, **arguments: Any) -> dict[str, Any]:
    return {"ph": "X", "name": name, "ts": start, "dur": duration, "cat": category, "args": arguments}


def node(name: str, start: float, duration: float, kind: str) -> dict[str, Any]:
    return event(f"{name}_kernel_time", start, duration, "Node", op_name=kind, input_type_shape=[{"float": [1, 3]}])


ONNXRUNTIME = [
    event("model_run", 0, 1000, "Session"),
    node("a", 10, 900, "Conv"),
    event("model_run", 2000, 1000, "Session"),
    node("a", 2010, 100, "Conv"),
    node("b", 2200, 300, "Relu"),
    event("model_run", 4000, 1000, "Session"),
    node("a", 4010, 300, "Conv"),
    node("b", 4400, 500, "Relu"),
]


def test_layers_of_onnxruntime_slowest_first_without_the_warm_up() -> None:
    first, second = layer_times("onnxruntime", ONNXRUNTIME, skip_runs=1)
    assert (first.name, first.kind, first.shape) == ("b", "Relu", "1x3")
    assert (first.time_ms.mean, first.time_ms.count) == (0.4, 2)
    assert first.share == pytest.approx(800 / 1200)
    assert second.time_ms.mean == pytest.approx(0.2)


def test_operators_of_torch_are_counted_once() -> None:
    trace = {
        "traceEvents": [
            event("model_run", 0, 1000, "user_annotation"),
            event("forward", 1, 990, "cpu_op"),
            event("aten::conv", 2, 500, "cpu_op", **{"Input Dims": [[1, 3, 8, 8], []]}),
            event("aten::mkldnn_conv", 3, 400, "cpu_op"),
            event("aten::conv", 600, 100, "cpu_op"),
            {"ph": "M", "name": "process_name"},
        ]
    }
    first, second = layer_times("torchscript", trace, skip_runs=0)
    assert (first.name, first.time_ms.mean, first.shape) == ("000 conv", 0.5, "1x3x8x8")
    assert (second.name, second.time_ms.mean) == ("001 conv", 0.1)


def test_a_trace_without_layers() -> None:
    with pytest.raises(BackendError, match="no layer in 0 runs"):
        layer_times("onnxruntime", [], skip_runs=0)
    with pytest.raises(BackendError, match="cannot be read here"):
        layer_times("tvm", [], skip_runs=0)


BACKENDS = {"onnxruntime": "Conv", "torchscript": "convolution"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_real_libraries(backend: str, tmp_path: Path) -> None:
    if backend == "torchscript" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    trace = tmp_path / "trace.json"
    arguments = ["profile", "--backend", f"{backend}:cpu", "--iterations", "4", "--warmup", "3"]
    done = trt_perception([*arguments, "--json", "--trace", trace])
    assert done.returncode == 0, done.stderr
    layers = json.loads(done.stdout)["layers"]
    assert sum(layer["share"] for layer in layers) == pytest.approx(1.0)
    assert [layer["share"] for layer in layers] == sorted((layer["share"] for layer in layers), reverse=True)
    # Which layer is the slowest depends on the machine's other work.
    assert any(BACKENDS[backend] in layer["kind"] for layer in layers)
    assert {layer["time_ms"]["count"] for layer in layers} == {4}
    events = json.loads(trace.read_text())
    assert sum(e["name"] == "model_run" for e in (events if isinstance(events, list) else events["traceEvents"])) == 7
    table = trt_perception([*arguments, "--top", "3"])
    assert "more layers" in table.stdout


class Profiler:
    """As TensorRT's: its subclass calls the constructor itself."""


def test_layers_of_tensorrt_as_its_context_reports_them(tmp_path: Path) -> None:
    # 8.6 leaves control characters in the names.
    described = """{"Layers": [
        {"Name": "conv + relu", "LayerType": "CaskConvolution", "Inputs": [{"Dimensions": [1, 3, 8, 8]}]},
        {"Name": "out\tput", "LayerType": "Reformat", "Inputs": []}, "a layer without details"]}"""
    inspector = SimpleNamespace(get_engine_information=lambda form: described)
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    library = SimpleNamespace(IProfiler=Profiler, LayerInformationFormat=SimpleNamespace(JSON="json"))
    context = SimpleNamespace(profiler=None)
    profiler = LayerProfiler(library, engine, context)
    reporter: Any = context.profiler
    reporter.report_layer_time("conv + relu", 100.0)  # of a run that nobody asked about
    for convolution_ms in (9.0, 0.2, 0.4):
        profiler.begin_run()
        reporter.report_layer_time("conv + relu", convolution_ms)
        reporter.report_layer_time("out\tput", 0.1)
        profiler.end_run()
    profiler.write(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    first, second = layer_times("tensorrt", trace, skip_runs=1)
    assert (first.name, first.kind, first.shape) == ("conv + relu", "CaskConvolution", "1x3x8x8")
    assert first.time_ms.count == 2 and first.time_ms.mean == pytest.approx(0.3)
    assert (second.name, second.kind) == ("out\tput", "Reformat") and second.share == pytest.approx(0.25)


def test_kernels_of_a_gpu_count_and_not_the_operators_that_started_them() -> None:
    trace = [
        event("model_run", 0, 1000, "user_annotation"),
        event("aten::conv", 2, 500, "cpu_op"),
        event("implicit_gemm", 10, 300, "kernel"),
        event("relu_kernel", 400, 100, "kernel"),
    ]
    layers = layer_times("torchscript", trace, skip_runs=0)
    assert [(layer.name, layer.time_ms.mean) for layer in layers] == [
        ("000 implicit_gemm", 0.3),
        ("001 relu_kernel", 0.1),
    ]


def test_a_trace_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    target = tmp_path / "absent" / "trace.json"
    done = trt_perception(["profile", "--iterations", "1", "--warmup", "0", "--trace", target])
    assert done.returncode == 1
    assert f"{target} cannot be written (No such file or directory); give another name" in done.stderr


def test_a_backend_without_a_profiler_is_said(fake_backend_path: None) -> None:
    with pytest.raises(BackendError, match=r"fake has no setting 'profile_to', .*; use its library's own profiler"):
        profile("digits", "fake", gather_pictures(None, 1, load_model("digits"), None), warm_up=0, iterations=1)


@pytest.fixture
def fake_backend_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the backend importable that another package registers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fake_backend"))
