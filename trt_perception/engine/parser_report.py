"""Why an ONNX file cannot become a network: every operator that is not supported, not only the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trt_perception.backends.tensorrt_runtime.faults import find_fault
from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.engine.onnx_nodes import OnnxNode, read_nodes

_MAX_LISTED = 40


def describe_failure(trt: TensorRt, parser: Any, fresh_parser: Any, model: bytes) -> str:
    """What the parser said, the nodes that this TensorRT lacks, and the ways out.

    parser has failed on the model; fresh_parser has parsed nothing yet and is asked what it supports.
    """
    said = [_error_text(parser.get_error(index)) for index in range(parser.num_errors)]
    nodes = read_nodes(model)
    lacking = _lacking(trt, fresh_parser, nodes)
    misused = [node for node in _unsupported_here(trt, fresh_parser, model, nodes) if node not in lacking]
    parts = []
    if lacking:
        parts.append(f"operators that {trt} does not have: {_listed(lacking)}")
    if misused:
        parts.append(f"operators used in a way that it does not support: {_listed(misused)}")
    parts.append(f"the parser said: {'; '.join(said) or 'nothing'}")
    fault = find_fault(" ".join(said))
    remedy = f"{fault.remedy}; " if fault else ""
    return (
        f"{'. '.join(parts)}. What helps: {remedy}export with another opset (13 to 17 is what every TensorRT since 8.5 "
        "reads), simplify the model (python -m onnxsim in.onnx out.onnx), replace the operator in the model's source, "
        "or load a plugin that implements it"
    )


def _error_text(error: Any) -> str:
    """In node n of the graph, with its name where this version tells it."""
    name = error.node_name() if hasattr(error, "node_name") else ""
    place = f"node {error.node()}{f' {name}' if name else ''}" if error.node() >= 0 else "the model"
    return f"{place}: {' '.join(error.desc().split())}"


def _lacking(trt: TensorRt, parser: Any, nodes: list[OnnxNode]) -> list[OnnxNode]:
    registry = trt.module.get_plugin_registry()
    creators = getattr(registry, trt.dialect.plugin_list) if registry is not None else []
    plugins = {creator.name for creator in creators}
    return [node for node in nodes if node.op_type not in plugins and not parser.supports_operator(node.op_type)]


def _unsupported_here(trt: TensorRt, parser: Any, model: bytes, nodes: list[OnnxNode]) -> list[OnnxNode]:
    """Nodes of the main graph that lie in a part which the parser cannot take over."""
    indices = _SUPPORT_QUERIES[trt.dialect.support_query](parser, model)
    return [node for node in nodes if node.index in indices and node.top_level]


def _query_v1(parser: Any, model: bytes) -> set[int]:
    _, parts = parser.supports_model(model)
    return {index for indices, supported in parts if not supported for index in indices}


def _query_v2(parser: Any, model: bytes) -> set[int]:
    parser.supports_model_v2(model)
    parts = [part for part in range(parser.num_subgraphs) if not parser.is_subgraph_supported(part)]
    return {index for part in parts for index in parser.get_subgraph_nodes(part)}


# Dialect.support_query → how that version is asked.
_SUPPORT_QUERIES: dict[str, Callable[[Any, bytes], set[int]]] = {
    "supports_model": _query_v1,
    "supports_model_v2": _query_v2,
}


def _listed(nodes: list[OnnxNode]) -> str:
    shown = ", ".join(map(str, nodes[:_MAX_LISTED]))
    more = len(nodes) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
