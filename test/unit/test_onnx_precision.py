"""The precision that an ONNX file is found to compute in, and what ONNX Runtime's backend reports of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from test.unit.engine.onnx_models import conv_model, yolov8_tail
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.backends.onnxruntime_runtime.options import CUDA, TENSORRT
from trt_perception.engine.half_precision import convert_to_half
from trt_perception.errors import ModelFileError
from trt_perception.models import load_model
from trt_perception.onnx_precision import _weight, onnx_precision


def written(folder: Path, model: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model)
    return path


def one_weight(weight: onnx.TensorProto, *, constant: bool = False) -> bytes:
    """images + weight → out; constant: the weight stands in a node, as some exporters write it."""
    nodes = [helper.make_node("Add", ["images", weight.name], ["out"])]
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], [weight.name], value=weight))
    ends = [helper.make_tensor_value_info(name, weight.data_type, [4]) for name in ("images", "out")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [] if constant else [weight])
    return bytes(helper.make_model(graph).SerializeToString())


def of_type(kind: int) -> bytes:
    """Ten weights of that TensorProto.DataType, and one of float32."""
    weights = onnx.TensorProto(name="w", data_type=kind, dims=[10], raw_data=bytes(10))
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph([], "g", [], [], [weights, one])
    return bytes(helper.make_model(graph).SerializeToString())


def in_a_branch() -> bytes:
    """The weights of half precision stand in the branches of an If, one of float32 outside."""
    proto = onnx.load_from_string(one_weight(numpy_helper.from_array(np.ones(4, np.float32), "w")))
    branch = helper.make_graph([], "branch", [], [], [numpy_helper.from_array(np.ones(9, np.float16), "inner")])
    proto.graph.node.append(helper.make_node("If", ["condition"], ["x"], then_branch=branch, else_branch=branch))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        (conv_model(), "fp32"),
        (convert_to_half(conv_model()), "fp16"),
        # Numbers for Q/DQ nodes, but no weights of theirs.
        (yolov8_tail(quantized=True), "fp32"),
        (one_weight(numpy_helper.from_array(np.ones(4, np.float64), "w"), constant=True), "fp64"),
        (one_weight(helper.make_tensor("w", TensorProto.BFLOAT16, [4], [1.0] * 4)), "bf16"),
        (one_weight(numpy_helper.from_array(np.ones(4, np.int32), "w")), None),
        (of_type(TensorProto.INT8), "int8"),
        (of_type(TensorProto.FLOAT8E4M3FN), "fp8"),
        (of_type(TensorProto.INT4), "int4"),
        (in_a_branch(), "fp16"),
    ],
)
def test_the_inside_counts(tmp_path: Path, model: bytes, precision: str | None) -> None:
    assert onnx_precision(written(tmp_path, model)) == precision


def test_most_of_the_weights_decide(tmp_path: Path) -> None:
    proto = onnx.load_from_string(convert_to_half(conv_model()))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((2, 2), np.float32), "few"))
    assert onnx_precision(written(tmp_path, proto.SerializeToString())) == "fp16"
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((1000, 10), np.float32), "many"))
    assert onnx_precision(written(tmp_path, proto.SerializeToString())) == "fp32"


@pytest.mark.parametrize("dims", [b"\x0a\x03\xe8\x07\x0a", b"\x08\xe8\x07\x08\x0a"], ids=["packed", "one by one"])
def test_both_ways_of_writing_a_shape(tmp_path: Path, dims: bytes) -> None:
    """1000 x 10 of half precision outweigh 4 x 27 + 2 x 36 of single."""
    weight = dims + b"\x10\x0a"  # TensorProto.dims, .data_type
    # ModelProto.graph with a GraphProto.initializer; a second graph is read as more of the first.
    more = bytes([0x3A, len(weight) + 2, 0x2A, len(weight)]) + weight
    assert onnx_precision(written(tmp_path, conv_model() + more)) == "fp16"


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    proto = onnx.load_from_string(convert_to_half(conv_model()))
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert onnx_precision(path) == "fp16"


@pytest.mark.parametrize("damage", [b"no network", conv_model()[:-5]])
def test_no_onnx_is_refused(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(ModelFileError, match=r"cannot be read as a \.onnx file"):
        onnx_precision(written(tmp_path, damage))


def test_sizes_that_no_file_has_do_not_grow_without_bound(tmp_path: Path) -> None:
    """Their product would take a time that grows with the square of their number."""
    weight = b"".join([b"\x08", b"\xff" * 8, b"\x7f"]) * 1000 + b"\x10\x0a"
    assert _weight(io.BytesIO(weight), len(weight))[1] < 1 << 63
    tensor = b"\x2a" + varint(len(weight)) + weight
    graph = b"\x3a" + varint(len(tensor)) + tensor
    assert onnx_precision(written(tmp_path, conv_model() + graph)) == "fp16"


def varint(value: int) -> bytes:
    """As protocol buffers write a length."""
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def test_onnx_runtime_reports_what_it_computes_in(tmp_path: Path) -> None:
    digits = load_model("digits").artifacts["onnx"].path
    half = written(tmp_path, convert_to_half(digits.read_bytes()))
    for path in (digits, half):
        with OnnxRuntimeBackend(BackendRequest.parse("onnxruntime:cpu"), path) as backend:
            # On the processor half precision is computed in float32.
            assert backend.info.precision == "fp32"
            found = [backend._precision(provider, "float32") for provider in (CUDA, TENSORRT)]
            assert found == (["fp16", "fp16"] if path == half else ["fp32", "fp32"])
    converted = OnnxRuntimeBackend(BackendRequest.parse("onnxruntime:tensorrt:fp16"), digits)
    assert converted._precision(TENSORRT, "float32") == "fp16"
