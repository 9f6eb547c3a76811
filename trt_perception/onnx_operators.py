"""Which operators an ONNX file uses, read without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trt_perception.errors import ModelFileError
from trt_perception.protobuf_fields import BYTES, read_tag

# Where nodes can be: message → number of a field → the message in it (onnx.proto).
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}
_OPERATOR = 4  # NodeProto.op_type
_MAX_NAME_BYTES = 1 << 10
_MAX_DEPTH = 64


def operators(onnx: Path) -> frozenset[str]:
    """Their names, such as `Conv`, those in subgraphs and functions too; raises ModelFileError for what is no ONNX."""
    try:
        with onnx.open("rb") as file:
            return frozenset(_operators(file, onnx.stat().st_size, "model", 0))
    except (OSError, ValueError, EOFError) as error:
        raise ModelFileError(f"{onnx} cannot be read as a .onnx file ({error}); export it again") from error


def _operators(file: BinaryIO, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs stand in each other more than {_MAX_DEPTH} deep")
    while file.tell() < end:
        field, wire, length = read_tag(file)
        if wire != BYTES:
            continue
        behind = file.tell() + length
        if behind > end:
            raise ValueError("a field is longer than the file: it is truncated or not ONNX")
        child = _CHILDREN[kind].get(field)
        if child is not None:
            yield from _operators(file, behind, child, depth + 1)
        elif kind == "node" and field == _OPERATOR:
            yield file.read(min(length, _MAX_NAME_BYTES)).decode("utf-8")
        file.seek(behind)
