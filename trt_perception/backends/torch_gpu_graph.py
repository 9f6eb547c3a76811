"""A frozen TorchScript graph as a GPU runs it fastest; the results are the same but for rounding."""

from __future__ import annotations

from typing import Any

_CONVOLUTIONS = ("aten::_convolution", "aten::conv2d", "aten::conv_transpose2d")
# Input, weight and bias come first in all of them.
_WEIGHT, _BIAS = 1, 2
_DIMENSIONS = 4
# They look at memory itself, so that another layout would change what they give.
_LAYOUT_BOUND = ("aten::as_strided", "aten::as_strided_", "aten::stride")


def suit_gpu(torch: Any, module: Any, *, channels_last: bool) -> bool:
    """Changes the frozen module's graph, before its first run; whether there was anything to change.

    Biases become additions of the graph, which TorchScript's fuser merges with the activation and the residual that
    follow: cuDNN gives each a kernel of its own. channels_last: weights lie channel by channel (NHWC), which is what
    tensor cores read. Every layer hands that layout on; without it cuDNN converts before and after each of them.
    """
    graph = module.graph
    if channels_last and any(graph.findNode(kind) is not None for kind in _LAYOUT_BOUND):
        channels_last = False
    changed = False
    for node in [found for kind in _CONVOLUTIONS for found in graph.findAllNodes(kind)]:
        inputs = list(node.inputs())
        weight, bias = inputs[_WEIGHT].toIValue(), inputs[_BIAS].toIValue()
        if weight is None or weight.dim() != _DIMENSIONS:
            continue
        if channels_last:
            node.replaceInput(_WEIGHT, _constant(graph, node, _channels_last(torch, weight)))
            changed = True
        if bias is not None:
            added = bias.reshape(1, -1, 1, 1)
            # The fuser hands a layout on only where it is that of every operand.
            _split_bias(graph, node, _channels_last(torch, added) if channels_last else added)
            changed = True
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_lint(graph)
    return changed


def _channels_last(torch: Any, tensor: Any) -> Any:
    """In that layout also by the strides of axes of one element, which torch's `contiguous` leaves as they are."""
    _, channels, height, width = tensor.shape
    strides = (channels * height * width, 1, channels * width, channels)
    return tensor.contiguous(memory_format=torch.channels_last).as_strided(tensor.shape, strides)


def _split_bias(graph: Any, node: Any, bias: Any) -> None:
    """convolution(x, w, b) becomes convolution(x, w) + b."""
    added, none, one = (_constant(graph, node, value) for value in (bias, None, 1))
    node.replaceInput(_BIAS, none)
    bare = node.output()
    add = graph.create("aten::add", [bare, added, one])
    add.insertAfter(node)
    add.output().setType(bare.type())
    bare.replaceAllUsesAfterNodeWith(add, add.output())


def _constant(graph: Any, node: Any, value: Any) -> Any:
    with graph.insert_point_guard(node):
        return graph.insertConstant(value)
