"""The operators of an ONNX file, read without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trt_perception.errors import ModelFileError

# Field numbers in onnx.proto: ModelProto.graph and .functions, GraphProto.node, FunctionProto.node, NodeProto's,
# AttributeProto.g and .graphs.
_GRAPH, _FUNCTION, _NODE, _FUNCTION_NODE = 7, 25, 1, 7
_INPUT, _OUTPUT, _NAME, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 3, 4, 5, 7
_SUBGRAPH, _SUBGRAPHS = 6, 11
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BITS = 70


@dataclass(frozen=True)
class OnnxNode:
    """One operator: its position in its graph, name (may be empty), type and domain (empty: ONNX's own).

    top_level: False for a node inside the body of an If, Loop or Scan. inputs, outputs: names of tensors; a node with
    bodies has what those read from outside among its inputs.
    """

    index: int
    name: str
    op_type: str
    domain: str
    top_level: bool = True
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return f"{self.name or f'node {self.index}'} ({kind})"


def read_nodes(model: bytes) -> list[OnnxNode]:
    """Every node, those inside If and Loop bodies too; raises ModelFileError for what is no ONNX."""
    return _nodes_in(model, _GRAPH, _NODE)


def operators(model: bytes) -> frozenset[str]:
    """The types of all nodes, those of the model's own functions too; raises as read_nodes does."""
    nodes = _nodes_in(model, _GRAPH, _NODE) + _nodes_in(model, _FUNCTION, _FUNCTION_NODE)
    return frozenset(node.op_type for node in nodes)


def _nodes_in(model: bytes, part: int, node: int) -> list[OnnxNode]:
    try:
        bodies = [body for field, body in _fields(memoryview(model)) if field == part]
        return [found for body in bodies for found in _graph_nodes(body, node, top_level=True)]
    except (IndexError, ValueError, RecursionError) as error:
        raise ModelFileError(f"this is no ONNX model ({error}); export it again") from error


def _graph_nodes(graph: memoryview, node: int, *, top_level: bool) -> Iterator[OnnxNode]:
    for index, body in enumerate(body for field, body in _fields(graph) if field == node):
        texts = {_NAME: "", _OP_TYPE: "", _DOMAIN: ""}
        tensors: dict[int, list[str]] = {_INPUT: [], _OUTPUT: []}
        inner: list[OnnxNode] = []
        for field, value in _fields(body):
            if field in texts:
                texts[field] = _text(value)
            elif field in tensors:
                tensors[field].append(_text(value))
            elif field == _ATTRIBUTE:
                for kind, part in _fields(value):
                    if kind in (_SUBGRAPH, _SUBGRAPHS):
                        inner += _graph_nodes(part, _NODE, top_level=False)
        made_inside = {name for one in inner for name in one.outputs}
        captured = [name for one in inner for name in one.inputs if name not in made_inside]
        yield OnnxNode(
            index,
            texts[_NAME],
            texts[_OP_TYPE],
            texts[_DOMAIN],
            top_level,
            inputs=(*tensors[_INPUT], *captured),
            outputs=tuple(tensors[_OUTPUT]),
        )
        yield from inner


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field number and content of every length-delimited field; numbers are skipped."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == _BYTES:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("a field is longer than the file")
            yield tag >> 3, message[position : position + length]
            position += length
        elif wire == _VARINT:
            _, position = _varint(message, position)
        elif wire in _FIXED_SIZES:
            position += _FIXED_SIZES[wire]
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < _MOST_VARINT_BITS:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number is longer than 64 bits")
