"""Where the tensors of an ONNX file stand in it, found without the onnx package and without reading what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from trt_perception.protobuf_fields import BYTES, read_tag

# Where tensors can be: message → number of a field → the message in it (onnx.proto).
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_MAX_DEPTH = 64


def tensor_ends(file: BinaryIO, end: int) -> Iterator[int]:
    """Of each TensorProto of the ModelProto that ends there: where it ends, while the file stands at its beginning.

    The caller may read on from there. Raises ValueError or EOFError for what is no such message.
    """
    return _ends(file, end, "model", 0)


def require_inside(file: BinaryIO, length: int, end: int) -> int:
    """Where a field of that length ends; raises ValueError where that is behind the end of what it stands in."""
    behind = file.tell() + length
    if behind > end:
        raise ValueError("a field is longer than the file: it is truncated or not ONNX")
    return behind


def _ends(file: BinaryIO, end: int, kind: str, depth: int) -> Iterator[int]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs stand in each other more than {_MAX_DEPTH} deep")
    if kind == "tensor":
        yield end
        return
    while file.tell() < end:
        field, wire, length = read_tag(file)
        if wire == BYTES:
            behind = require_inside(file, length, end)
            child = _CHILDREN[kind].get(field)
            if child is not None:
                yield from _ends(file, behind, child, depth + 1)
            file.seek(behind)
