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


def yolov8_tail(*, named: bool = True, quantized: bool = False) -> bytes:
    """images (1, 3, 8, 8) → out (1, 6, 64): what YOLOv8 does behind its last convolutions, with four bins a side.

    Bins become distances by softmax and a convolution, distances become centre and size, cells of 8 px; two scores.
    named: nodes have names. quantized: the scores' convolution is followed by a Q/DQ pair.
    """
    rng = np.random.default_rng(2)
    cells = (np.stack(np.meshgrid(np.arange(8), np.arange(8))).reshape(1, 2, 64) + 0.5).astype(np.float32)
    weights: dict[str, Any] = {
        "w_box": rng.normal(size=(16, 3, 3, 3)).astype(np.float32),
        "w_score": rng.normal(size=(2, 3, 3, 3)).astype(np.float32),
        "w_bins": np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1),
        "to_bins": np.array([1, 4, 4, 64], np.int64),
        "to_sides": np.array([1, 4, 64], np.int64),
        "to_scores": np.array([1, 2, 64], np.int64),
        "halves": np.array([2, 2], np.int64),
        "cells": cells,
        "two": np.array(2, np.float32),
        "stride": np.array(8, np.float32),
        "step": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
    }

    def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
        name = f"{kind.lower()}_{outputs.split()[0]}" if named else ""
        return helper.make_node(kind, inputs.split(), outputs.split(), name=name, **attributes)

    pair = [
        node("QuantizeLinear", "score_map step zero", "score_q"),
        node("DequantizeLinear", "score_q step zero", "score_dq"),
    ]
    nodes = [
        node("Relu", "images", "features"),
        node("Conv", "features w_box", "box_map", pads=[1, 1, 1, 1]),
        node("Conv", "features w_score", "score_map", pads=[1, 1, 1, 1]),
        *(pair if quantized else []),
        node("Reshape", "box_map to_bins", "bins"),
        node("Transpose", "bins", "turned", perm=[0, 2, 1, 3]),
        node("Softmax", "turned", "shares", axis=1),
        node("Conv", "shares w_bins", "sides_map"),
        node("Reshape", "sides_map to_sides", "sides"),
        node("Split", "sides halves", "low high", axis=1),
        node("Sub", "cells low", "corner"),
        node("Add", "cells high", "opposite"),
        node("Add", "corner opposite", "sum"),
        node("Div", "sum two", "center"),
        node("Sub", "opposite corner", "size"),
        node("Concat", "center size", "in_cells", axis=1),
        node("Mul", "in_cells stride", "boxes"),
        node("Reshape", f"{'score_dq' if quantized else 'score_map'} to_scores", "logits"),
        node("Sigmoid", "logits", "scores"),
        node("Concat", "boxes scores", "out", axis=1),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    return _model(nodes, tensors, [1, 3, 8, 8], [1, 6, 64])


def branching_model(*, behind: bool = False) -> bytes:
    """A model with operators inside the bodies of an If, one of them of a foreign domain.

    behind: the bodies read what comes from a convolution and a multiplication instead of the images.
    """
    weights = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    before = [
        helper.make_node("Conv", ["images", "w"], ["map"]),
        helper.make_node("Mul", ["map", "map"], ["square"]),
    ]
    read = "square" if behind else "images"
    body = [
        helper.make_graph(
            [helper.make_node(kind, [read], [name], name=name, domain=domain)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for kind, name, domain in (("Relu", "then", ""), ("Odd", "other", "my.domain"))
    ]
    condition = numpy_helper.from_array(np.array(True), "yes")
    node = helper.make_node("If", ["yes"], ["out"], then_branch=body[0], else_branch=body[1])
    return _model([*(before if behind else []), node], [condition, weights], [1, 3, 4, 4], [1, 3, 4, 4])


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
