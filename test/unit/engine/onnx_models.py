"""Small ONNX models made with the onnx package."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def conv_model(side: int = 16, channels: int = 4) -> bytes:
    """images (1, 3, side, side) → conv `first` → relu → conv `second` → out."""
    rng = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(rng.normal(size=(channels, 3, 3, 3)).astype(np.float32), "w1"),
        numpy_helper.from_array(rng.normal(size=(2, channels, 3, 3)).astype(np.float32), "w2"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["out"], name="second", pads=[1, 1, 1, 1]),
    ]
    return _model(nodes, weights, [1, 3, side, side], [1, 2, side, side])


def branching_model() -> bytes:
    """A model with operators inside the bodies of an If, one of them of a foreign domain."""
    body = [
        helper.make_graph(
            [helper.make_node(kind, ["images"], [name], name=name, domain=domain)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for kind, name, domain in (("Relu", "then", ""), ("Odd", "other", "my.domain"))
    ]
    condition = numpy_helper.from_array(np.array(True), "yes")
    node = helper.make_node("If", ["yes"], ["out"], then_branch=body[0], else_branch=body[1])
    return _model([node], [condition], [1, 3, 4, 4], [1, 3, 4, 4])


def _model(nodes: list[Any], weights: list[Any], size: list[int], out: list[int]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, out)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
