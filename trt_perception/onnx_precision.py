"""In which precision an ONNX network's weights are, read from the file: its input may be of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trt_perception.errors import ModelFileError
from trt_perception.external_data import MAX_DEPTH, TENSORS_IN
from trt_perception.protobuf_fields import BYTES, read_tag, read_varint

_DIMS, _TYPE = 1, 2  # TensorProto.dims, .data_type
# TensorProto.DataType; others count things or place them.
_PRECISIONS = {
    **{1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16"},
    **{2: "int8", 3: "int8", 17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8", 21: "int4", 22: "int4"},
}
_MOST_ELEMENTS = 1 << 62  # more than any file holds, and a product stays a small number


def onnx_precision(onnx: Path) -> str | None:
    """What most of the weights are, element by element: `fp32`, `fp16`, `bf16`, `fp64`, `fp8`, `int8` or `int4`; None
    where there are none.

    Raises ModelFileError for what is no ONNX.
    """
    found = Counter[str]()
    try:
        with onnx.open("rb") as file:
            for precision, elements in _weights(file, onnx.stat().st_size, "model", 0):
                found[precision] += elements
    except (OSError, ValueError, EOFError) as error:
        raise ModelFileError(f"{onnx} cannot be read as a .onnx file ({error}); export it again") from error
    return found.most_common(1)[0][0] if found else None


def _weights(file: BinaryIO, end: int, kind: str, depth: int) -> Iterator[tuple[str, int]]:
    """Of each tensor its precision and how many elements it has; the elements themselves are passed over."""
    if depth > MAX_DEPTH:
        raise ValueError(f"graphs stand in each other more than {MAX_DEPTH} deep")
    elements, precision = 1, None
    while file.tell() < end:
        field, wire, value = read_tag(file)
        if kind == "tensor" and field > _TYPE and precision is not None:
            # What follows are the elements, which may stand there one by one.
            break
        if wire != BYTES:
            if kind == "tensor" and field == _DIMS:
                elements = min(elements * value, _MOST_ELEMENTS)
            elif kind == "tensor" and field == _TYPE:
                precision = _PRECISIONS.get(value)
            continue
        behind = file.tell() + value
        if behind > end:
            raise ValueError("a field is longer than the file: it is truncated or not ONNX")
        child = TENSORS_IN.get(kind, {}).get(field)
        if child is not None:
            yield from _weights(file, behind, child, depth + 1)
        elif kind == "tensor" and field == _DIMS:
            while file.tell() < behind:
                elements = min(elements * read_varint(file), _MOST_ELEMENTS)
        file.seek(behind)
    if precision is not None:
        yield precision, elements
