"""FP16 for TensorRT 11, which takes each layer's type from the model: the ONNX itself is converted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from trt_perception.backends.onnxruntime_runtime.library import onnxruntime_part
from trt_perception.engine.onnx_library import load_onnx
from trt_perception.errors import PerceptionError

# How the converter names the casts around nodes that stay float32.
_TO_HALF, _TO_SINGLE = "_cast_to_fp16_node", "_cast_to_fp32_node"


def convert_to_half(
    model: bytes, keep: Collection[str] = (), keep_tensors: Collection[str] = (), folder: Path | None = None
) -> bytes:
    """The model with float16 weights and arithmetic; inputs and outputs stay float32, `keep` nodes as well, and those
    that give `keep_tensors`. folder: where weights lie that are not in the file.

    Done by ONNX Runtime's own converter (onnxruntime.transformers.float16), which casts around the operators that
    must stay float32. Raises PerceptionError.
    """
    converter: Any = onnxruntime_part("transformers.float16")
    proto = load_onnx(model, folder)
    kept = set(keep) | _names_of(proto.graph, set(keep_tensors))
    try:
        converted = converter.convert_float_to_float16(proto, keep_io_types=True, node_block_list=sorted(kept))
    except (ValueError, RuntimeError, TypeError) as error:
        raise PerceptionError(
            f"ONNX Runtime cannot convert the model to FP16: {error}; simplify it (python -m onnxsim), or build "
            "without --fp16"
        ) from error
    _join_casts(converted.graph)
    return bytes(converted.SerializeToString())


def _names_of(graph: Any, tensors: set[str]) -> set[str]:
    """The nodes that give these tensors, and their constants; the converter knows nodes by names, so they get some."""
    givers = [node for node in graph.node if not tensors.isdisjoint(node.output)]
    read = {name for node in givers for name in node.input}
    givers += [node for node in graph.node if node.op_type == "Constant" and not read.isdisjoint(node.output)]
    for index, node in enumerate(givers):
        node.name = node.name or f"kept_in_fp32_{index}"
    return {node.name for node in givers}


def _join_casts(graph: Any) -> None:
    """Takes out what the converter leaves between nodes that stay float32: it rounds each one's result to float16 and
    casts it back for the next, once for each reader, under one name.
    """
    rounded = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.name.startswith("graph_input_cast") or node.name.endswith(_TO_HALF)
    }
    exact = {
        node.output[0]: rounded[node.input[0]]
        for node in graph.node
        if node.name.startswith("graph_output_cast") or node.name.endswith(_TO_SINGLE)
        if node.input[0] in rounded
    }
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = exact.get(name, name)
    # A result of the model keeps its name.
    results = {exact[value.name]: value.name for value in graph.output if value.name in exact}
    nodes: list[Any] = []
    given: set[str] = set()
    for node in graph.node:
        if given.isdisjoint(node.output) and exact.keys().isdisjoint(node.output):
            given.update(node.output)
            nodes.append(node)
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = results.get(name, name)
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.op_type != "Cast" or node.output[0] in used)
