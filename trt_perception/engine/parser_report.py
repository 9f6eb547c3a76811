"""Why an ONNX file cannot become a network: every operator that is not supported, not only the first."""

from __future__ import annotations

from typing import Any

from trt_perception.backends.tensorrt_runtime.faults import find_fault
from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.onnx_nodes import OnnxNode, read_nodes

_MAX_LISTED = 40


def describe_failure(trt: TensorRt, parser: Any, model: bytes) -> str:
    """What the parser said, every node whose operator this TensorRT lacks, and the ways out.

    The parser has failed on that model. TensorRT 8 stops at the first node, 10 and newer report each.
    """
    nodes = read_nodes(model)
    said = [_error_text(parser.get_error(index), nodes) for index in range(parser.num_errors)]
    lacking = _lacking(trt, parser, nodes)
    parts = [f"operators that {trt} does not have: {_listed(lacking)}"] if lacking else []
    parts.append(f"the parser said: {'; '.join(dict.fromkeys(said)) or 'nothing'}")
    fault = find_fault(" ".join(said))
    remedy = f"{fault.remedy}; " if fault else ""
    return (
        f"{'. '.join(parts)}. What helps: {remedy}export with another opset (13 to 17 is what every TensorRT since 8.5 "
        "reads), simplify the model (python -m onnxsim in.onnx out.onnx), replace the operator in the model's source, "
        "or load a plugin that implements it"
    )


def _error_text(error: Any, nodes: list[OnnxNode]) -> str:
    """The parser counts nodes of the main graph; below 0 it means the model as a whole."""
    place = next((str(node) for node in nodes if node.top_level and node.index == error.node()), "the model")
    return f"{place}: {' '.join(error.desc().split())}"


def _lacking(trt: TensorRt, parser: Any, nodes: list[OnnxNode]) -> list[OnnxNode]:
    registry = trt.module.get_plugin_registry()
    creators = getattr(registry, trt.dialect.plugin_list) if registry is not None else []
    plugins = {creator.name for creator in creators}
    return [node for node in nodes if node.op_type not in plugins and not parser.supports_operator(node.op_type)]


def _listed(nodes: list[OnnxNode]) -> str:
    shown = ", ".join(map(str, nodes[:_MAX_LISTED]))
    more = len(nodes) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
