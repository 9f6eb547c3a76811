"""In which precision an ONNX network computes, read from the file: where its inside is half, its input need not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trt_perception.errors import ModelFileError
from trt_perception.protobuf_fields import BYTES, read_tag, read_varint

# onnx.proto: where weights and operators' names stand. Message → number of a field → the message in it.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor"},
}
_NODE_OPERATOR = 4  # NodeProto.op_type
_TENSOR_DIMS, _TENSOR_TYPE = 1, 2  # TensorProto.dims, .data_type
_FLOATS = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16"}  # TensorProto.DataType
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"}
_LONGEST_NAME = max(map(len, _QUANTIZED))


def onnx_precision(onnx: Path) -> str | None:
    """`int8` for a network with quantised operators, else what most of its weights are: `fp32`, `fp16`, `bf16` or
    `fp64`; None where it has no weights.

    Raises ModelFileError for what is no ONNX.
    """
    try:
        with onnx.open("rb") as file:
            found = Counter[str]()
            for precision, elements in _traces(file, onnx.stat().st_size, "model"):
                found[precision] += elements
    except (OSError, ValueError, EOFError) as error:
        raise ModelFileError(f"{onnx} cannot be read as a .onnx file ({error}); export it again") from error
    if "int8" in found:
        return "int8"
    return found.most_common(1)[0][0] if found else None


def _traces(file: BinaryIO, end: int, kind: str) -> Iterator[tuple[str, int]]:
    """Of each weight its precision and how many elements it has, of each quantised operator `int8`."""
    elements, precision = 1, None
    while file.tell() < end:
        field, wire, value = read_tag(file)
        if wire != BYTES:
            if kind == "tensor" and field == _TENSOR_DIMS:
                elements *= value
            elif kind == "tensor" and field == _TENSOR_TYPE:
                precision = _FLOATS.get(value)
            continue
        after = file.tell() + value
        if after > end:
            raise ValueError("a field is longer than what it stands in: it is truncated or not ONNX")
        if kind == "tensor" and field == _TENSOR_DIMS:
            elements *= _product(file, after)
        elif kind == "node" and field == _NODE_OPERATOR and value <= _LONGEST_NAME:
            if file.read(value).decode("utf-8", "replace") in _QUANTIZED:
                yield "int8", 1
        elif field in _CHILDREN.get(kind, {}):
            yield from _traces(file, after, _CHILDREN[kind][field])
        file.seek(after)
    if precision is not None:
        yield precision, elements


def _product(file: BinaryIO, end: int) -> int:
    """Of numbers that are packed into one field."""
    product = 1
    while file.tell() < end:
        product *= read_varint(file)
    return product
