"""Which part of a network computes with boxes, behind the last convolutions, and is kept in FP32.

A centre of 300 px lies between two FP16 numbers that are 0.25 px apart, which is 2 % of a box of 14 px. Convolutions do
not suffer from that: their values are small and their errors relative. The few operators that turn them into pixels do.
"""

from __future__ import annotations

from trt_perception.onnx_nodes import OnnxNode, read_nodes

# Where the weights are; and where a model says by itself what is INT8. Bodies of loops may hold both.
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_QUANTIZED = frozenset({"DequantizeLinear", "QuantizeLinear"})
_WITH_BODY = frozenset({"If", "Loop", "Scan"})
_HEAVY = _WEIGHTED | _QUANTIZED | _WITH_BODY

# fmt: off
_ARITHMETIC = frozenset({
    "Add", "Div", "Exp", "HardSigmoid", "Log", "Max", "Mean", "Min", "Mul", "Neg", "Pow", "Reciprocal", "ReduceMax",
    "ReduceMean", "ReduceSum", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Sub", "Sum", "Tanh",
})

# Activations belong to the convolution in front of them, and moving a number costs it nothing; behind arithmetic both
# would round its results.
_FOLLOWING = frozenset({
    "Clip", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "LeakyRelu", "Relu",
    "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
})
# fmt: on

# They give shapes and indices, which no longer are values of the network.
_COUNTING = frozenset({"ArgMax", "NonZero", "Shape", "Size"})


def box_tensors(model: bytes) -> frozenset[str]:
    """Names of the tensors that such operators give, of an ONNX file's content.

    They depend on a convolution or matrix product and none depends on them. Scores' operators behind the last
    convolutions are among them: nothing in a graph tells a score from a coordinate. Raises ModelFileError.
    """
    nodes = _top_level(model)
    behind: set[str] = set()
    for node in nodes:
        if node.op_type in _HEAVY or (node.op_type not in _COUNTING and behind.intersection(node.inputs)):
            behind.update(node.outputs)
    needed = _needed_by_heavy(nodes)
    boxes: set[str] = set()
    for node in nodes:
        if needed.intersection(node.outputs) or not behind.intersection(node.inputs):
            continue
        if node.op_type in _ARITHMETIC or (node.op_type in _FOLLOWING and boxes.intersection(node.inputs)):
            boxes.update(node.outputs)
    return frozenset(boxes)


def last_weighted(model: bytes) -> tuple[OnnxNode, ...]:
    """The convolutions and matrix products behind which there is no further one.

    What they give becomes boxes and scores directly: 127 steps are too few for that. Raises ModelFileError.
    """
    nodes = _top_level(model)
    needed = _needed_by_heavy(nodes)
    return tuple(n for n in nodes if n.op_type in _WEIGHTED and not needed.intersection(n.outputs))


def _top_level(model: bytes) -> list[OnnxNode]:
    return [node for node in read_nodes(model) if node.top_level]


def _needed_by_heavy(nodes: list[OnnxNode]) -> set[str]:
    """The tensors that heavy operators depend on."""
    needed: set[str] = set()
    for node in reversed(nodes):
        if node.op_type in _HEAVY or needed.intersection(node.outputs):
            needed.update(node.inputs)
    return needed
