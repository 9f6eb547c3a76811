"""A frozen TorchScript network as a GPU runs it fastest; the results are the same but for rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trt_perception.backends.torch_network import last_line

_TRACED = "aten::_convolution"
_CONVOLUTIONS = (_TRACED, "aten::conv2d", "aten::conv_transpose2d")
# Input, weight and bias come first in all of them; what torch's switches were when a network was traced comes last.
_WEIGHT, _BIAS = 1, 2
_BENCHMARK, _TF32 = 9, 12
_DIMENSIONS = 4
# They look at memory itself, so that another layout would change what they give.
_LAYOUT_BOUND = ("aten::as_strided", "aten::as_strided_", "aten::stride")
# What torch's C++ errors become in Python, and what another torch may lack.
_ERRORS = (RuntimeError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Convolutions:
    """channels_last: tensor cores are there for them, which read channels that lie side by side. benchmark: cuDNN times
    its algorithms and keeps the fastest. tf32: float32 factors are rounded to TF32's ten bits.
    """

    channels_last: bool
    benchmark: bool
    tf32: bool


class GpuModule:
    """A frozen module whose graph was changed for the GPU; where that does not work, as it was.

    channels_last: it runs fastest with an input in that layout; any other is right too.
    """

    def __init__(
        self, torch: Any, load: Callable[[], Any], convolutions: Convolutions, tell: Callable[[str], None]
    ) -> None:
        """load: gives the module, anew each time. tell: takes a sentence when something does not work."""
        self._torch, self._load, self._tell = torch, load, tell
        self._module = load()
        # CUDA graphs read the weights of the one that they were recorded from.
        self._replaced: Any = None
        try:
            self.channels_last = suit_gpu(torch, self._module, convolutions)
        except _ERRORS as error:
            self.channels_last = False
            self._module = load()
            tell(f"slower than it could be: torch {torch.__version__} cannot change the network ({last_line(error)})")

    def __call__(self, batch: Any) -> Any:
        """What the network gives for a (batch, channels, height, width) tensor."""
        if not self.channels_last:
            return self._module(batch.contiguous())
        try:
            return self._module(batch)
        except RuntimeError as error:
            if self._torch.cuda.is_current_stream_capturing():
                raise
            # `view` refuses to join axes of channels that lie side by side. What fails as exported too raises here.
            module = self._load()
            result = module(batch.contiguous())
            self._replaced, self._module = self._module, module
            self.channels_last = False
            self._tell(f"slower than it could be: the network needs its own memory layout ({last_line(error)})")
            return result


def suit_gpu(torch: Any, module: Any, convolutions: Convolutions) -> bool:
    """Changes the frozen module's graph before its first run; whether channels now lie side by side.

    - Weights lie channel by channel, and every layer hands that layout on; else cuDNN converts before and after each.
    - Biases become additions of the graph, which TorchScript's fuser merges with the activation and the residual that
      follow; cuDNN gives each a kernel of its own.
    - A traced network holds torch's switches as they were when it was traced; here they are set
      (https://github.com/pytorch/pytorch/issues/18776).
    """
    graph = module.graph
    channels_last = convolutions.channels_last and all(graph.findNode(kind) is None for kind in _LAYOUT_BOUND)
    changed = False
    for node in [found for kind in _CONVOLUTIONS for found in graph.findAllNodes(kind)]:
        inputs = list(node.inputs())
        if node.kind() == _TRACED:
            node.replaceInput(_BENCHMARK, _constant(graph, node, convolutions.benchmark))
            if len(inputs) > _TF32:  # not in those of torch 1.6 and older
                node.replaceInput(_TF32, _constant(graph, node, convolutions.tf32))
        weight, bias = inputs[_WEIGHT].toIValue(), inputs[_BIAS].toIValue()
        if weight is None or weight.dim() != _DIMENSIONS:
            continue
        if channels_last:
            node.replaceInput(_WEIGHT, _constant(graph, node, _side_by_side(torch, weight)))
            changed = True
        if bias is not None:
            added = bias.reshape(1, -1, 1, 1)
            # The fuser hands a layout on only where it is that of every operand.
            _split_bias(graph, node, _side_by_side(torch, added) if channels_last else added)
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_lint(graph)
    return changed


def _side_by_side(torch: Any, tensor: Any) -> Any:
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
