"""Writes the small ONNX graphs that ONNX Runtime runs around a network on a GPU: `python -m tools.frame_graphs`.

They come with the package, which does not need the onnx package to use them. Sizes are free: one graph serves every
camera and every network.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from trt_perception.backends.frame_sampling import (
    CHROMA_OFFSET,
    COLUMN_SHIFT,
    GRAY_FACTORS,
    GRAY_SHIFT,
    LAST_SHIFT,
    ROW_SUM_SHIFT,
    Y_FACTOR,
    Y_OFFSET,
    YUV_SHIFT,
)
from trt_perception.backends.onnxruntime_frame_path import CANDIDATE_GRAPHS, GRAPHS, SAMPLING_GRAPHS
from trt_perception.onnx_package import onnx_package

_OPSET = 17
# What ONNX Runtime 1.16 reads.
_IR_VERSION = 8
_BYTE, _INT32, _FLOAT = "UINT8", "INT32", "FLOAT"
_AS_INT32 = 6  # TensorProto.INT32
_AS_FLOAT = 1  # TensorProto.FLOAT


class _Graph:
    """Collects nodes and constants; each operator gives the name of its output."""

    def __init__(self, name: str) -> None:
        self._onnx = onnx_package("writing the graphs around a network")
        self._name = name
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, kind: str, shape: list[str | int]) -> str:
        """Its name."""
        helper = self._onnx.helper
        self._inputs.append(helper.make_tensor_value_info(name, getattr(self._onnx.TensorProto, kind), shape))
        return name

    def constant(self, value: Any, dtype: Any = np.int32) -> str:
        """Its name; equal ones are kept once."""
        array = np.asarray(value, dtype)
        name = f"c{len(self._constants)}"
        known = (key for key, old in self._constants.items() if old.dtype == array.dtype and np.array_equal(old, array))
        found = next(known, None)
        if found is None:
            self._constants[name] = array
        return found or name

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of the operator's first output."""
        name = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def output(self, name: str, of: str, kind: str, shape: list[str | int]) -> None:
        """Names what `of` gives."""
        helper = self._onnx.helper
        self._nodes.append(helper.make_node("Identity", [of], [name], name=f"give_{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, getattr(self._onnx.TensorProto, kind), shape))

    def model(self) -> Any:
        """The checked model."""
        helper, numpy_helper = self._onnx.helper, self._onnx.numpy_helper
        constants = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="trt_perception tools.frame_graphs"
        )
        self._onnx.checker.check_model(model, full_check=True)
        return model


def sampling_graph(*, yuv: bool, to_gray: bool) -> Any:
    """A frame's bytes and the tables of backends/frame_sampling.py → the network's input, float32 (1, C, H, W).

    Tables with a plane for each channel of the input, or for three where they become grey. pads: for the border, in
    the order of ONNX's Pad; factor, shift: float32 (1, C, 1, 1).
    """
    g = _Graph("sample_frame")
    frame = g.input("frame", _BYTE, ["bytes"])
    rows = g.input("rows", _INT32, [2, 1, "planes", "height", 1])
    columns = g.input("columns", _INT32, [1, 2, "planes", 1, "width"])
    row_weights = g.input("row_weights", _INT32, [2, 1, 1, "height", 1])
    column_weights = g.input("column_weights", _INT32, [1, 2, 1, 1, "width"])
    pads, pad_value = g.input("pads", "INT64", [8]), g.input("pad_value", _FLOAT, [])
    factor, shift = (g.input(name, _FLOAT, [1, "channels", 1, 1]) for name in ("factor", "shift"))
    corners = g.op("Cast", g.op("Gather", frame, g.op("Add", rows, columns), axis=0), to=_AS_INT32)
    if yuv:
        corners = _from_yuv(g, corners)
    in_rows = _shifted(g, _sum(g, g.op("Mul", corners, column_weights), 1, 2), ROW_SUM_SHIFT)
    in_columns = _sum(g, _shifted(g, g.op("Mul", in_rows, row_weights), COLUMN_SHIFT), 0, 2)
    pixels = g.op("Squeeze", _rounded(g, in_columns, LAST_SHIFT), g.constant([0], np.int64))
    if to_gray:
        factors = g.constant(np.reshape(GRAY_FACTORS, (1, 3, 1, 1)))
        pixels = _rounded(g, _sum(g, g.op("Mul", pixels, factors), 1, 3), GRAY_SHIFT)
    bordered = g.op("Pad", g.op("Cast", pixels, to=_AS_FLOAT), pads, pad_value)
    tensor = g.op("Add", g.op("Mul", bordered, factor), shift)
    g.output("tensor", tensor, _FLOAT, [1, "channels", "input_height", "input_width"])
    return g.model()


def _from_yuv(g: _Graph, planes: str) -> str:
    """(2, 2, 3, H, W) of Y, U, V to 0..255 of the colours in whose order u_factors and v_factors come."""
    parts = [_part(g, planes, 2, i) for i in range(3)]
    luma = g.op("Max", g.op("Sub", parts[0], g.constant(Y_OFFSET)), g.constant(0))
    scaled = g.op("Mul", luma, g.constant(Y_FACTOR))
    for part, name in ((parts[1], "u_factors"), (parts[2], "v_factors")):
        centred = g.op("Sub", part, g.constant(CHROMA_OFFSET))
        scaled = g.op("Add", scaled, g.op("Mul", centred, g.input(name, _INT32, [3, 1, 1])))
    # Division cuts towards zero, so what is below goes first.
    rounded = _rounded(g, scaled, YUV_SHIFT, least=g.constant(0))
    return g.op("Min", rounded, g.constant(255))


def _shifted(g: _Graph, values: str, bits: int) -> str:
    """values >> bits, which ONNX has for unsigned numbers only; none is negative here."""
    return g.op("Div", values, g.constant(1 << bits))


def _rounded(g: _Graph, values: str, bits: int, least: str | None = None) -> str:
    raised = g.op("Add", values, g.constant(1 << bits >> 1))
    return _shifted(g, raised if least is None else g.op("Max", raised, least), bits)


def _sum(g: _Graph, values: str, axis: int, count: int) -> str:
    """Over `count` along the axis, which stays with a length of 1. ONNX Runtime's CUDA ReduceSum goes through float."""
    first, *others = (_part(g, values, axis, place) for place in range(count))
    for other in others:
        first = g.op("Add", first, other)
    return first


def _part(g: _Graph, values: str, axis: int, place: int) -> str:
    return g.op("Slice", values, *(g.constant([n], np.int64) for n in (place, place + 1, axis)))


def candidates_graph(head: str) -> Any:
    """A network's output (1, …) → the same with those boxes alone whose best score is above `lowest`, in their order.

    `finite` is 0, or NaN where a score is not finite.
    """
    g = _Graph(f"candidates_{head}")
    in_columns = head == "yolov8"
    values = "4 + classes" if in_columns else "5 + classes"
    output = g.input("output", _FLOAT, [1, values, "cells"] if in_columns else [1, "cells", values])
    lowest = g.input("lowest", _FLOAT, [1])
    axis, ends = (1 if in_columns else 2), g.constant([np.iinfo(np.int64).max], np.int64)
    first = g.constant([4 if in_columns else 5], np.int64)
    along = g.constant([axis], np.int64)
    scores = g.op("Slice", output, first, ends, along)
    best = g.op("ReduceMax", scores, axes=[axis], keepdims=0)
    if not in_columns:
        four, five = (g.constant([n], np.int64) for n in (4, 5))
        best = g.op("ReduceMax", g.op("Mul", scores, g.op("Slice", output, four, five, along)), axes=[2], keepdims=0)
    counts = g.op("Squeeze", g.op("Greater", best, lowest), g.constant([0], np.int64))
    chosen = g.op("Squeeze", g.op("NonZero", counts), g.constant([0], np.int64))
    shape: list[str | int] = [1, values, "chosen"] if in_columns else [1, "chosen", values]
    g.output("candidates", g.op("Gather", output, chosen, axis=3 - axis), _FLOAT, shape)
    nothing = g.op("Mul", scores, g.constant(0.0, np.float32))
    g.output("finite", g.op("ReduceSum", nothing, g.constant([0, 1, 2], np.int64), keepdims=0), _FLOAT, [])
    return g.model()


def models() -> dict[str, Any]:
    """Name → model of every graph that comes with the package."""
    sampling = {name: sampling_graph(yuv=yuv, to_gray=to_gray) for (yuv, to_gray), name in SAMPLING_GRAPHS.items()}
    return sampling | {name: candidates_graph(head) for head, name in CANDIDATE_GRAPHS.items()}


def main() -> int:
    """Writes them where the package looks for them."""
    Path(GRAPHS).mkdir(parents=True, exist_ok=True)
    for name, model in models().items():
        path = GRAPHS / name
        path.write_bytes(model.SerializeToString())
        print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
