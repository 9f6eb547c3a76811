"""In which precision an ONNX network's weights are, read from the file: its input may be of another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import BinaryIO

from trt_perception.errors import ModelFileError
from trt_perception.onnx_tensors import require_inside, tensor_ends
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
            for end in tensor_ends(file, onnx.stat().st_size):
                precision, elements = _weight(file, end)
                if precision is not None:
                    found[precision] += elements
    except (OSError, ValueError, EOFError) as error:
        raise ModelFileError(f"{onnx} cannot be read as a .onnx file ({error}); export it again") from error
    return found.most_common(1)[0][0] if found else None


def _weight(file: BinaryIO, end: int) -> tuple[str | None, int]:
    """A tensor's precision and how many elements it has; the elements themselves are passed over."""
    elements, precision = 1, None
    while file.tell() < end:
        field, wire, value = read_tag(file)
        if field > _TYPE and precision is not None:
            # What follows are the elements, which may stand there one by one.
            break
        if wire == BYTES:
            behind = require_inside(file, value, end)
            while field == _DIMS and file.tell() < behind:
                elements = min(elements * read_varint(file), _MOST_ELEMENTS)
            file.seek(behind)
        elif field == _DIMS:
            elements = min(elements * value, _MOST_ELEMENTS)
        elif field == _TYPE:
            precision = _PRECISIONS.get(value)
    return precision, elements
