"""An execution context that counts how often its input changes shape, since CUDA graphs depend on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trt_perception.backends.tensorrt_runtime.faults import explain
from trt_perception.backends.tensorrt_runtime.trt_logger import collect
from trt_perception.errors import BackendError
from trt_perception.types import TensorSpec


class ShapedContext:
    """One execution context of an engine with one input.

    changes: how often the input's shape was another one. A graph that was recorded before the last change does not hold
    any more, not even when the shape is the old one again: it is made of launches, and what TensorRT keeps for the
    shape beside them lies in the context (TensorRT's developer guide, "CUDA Graphs").
    """

    def __init__(self, context: Any, given: TensorSpec, output_types: Mapping[str, str]) -> None:
        """given: the input. output_types: name → NumPy's name of the type in memory."""
        self._context = context
        self._input = given
        self._output_types = output_types
        self._shape: tuple[int, ...] | None = None
        self.changes = 0

    def set_shape(self, shape: tuple[int, ...]) -> None:
        """Gives its input that shape; raises BackendError where TensorRT refuses it."""
        if shape == self._shape:
            return
        self.changes += 1
        self._shape = None
        with collect() as messages:
            if not self._context.set_input_shape(self._input.name, shape):
                reason = explain(messages.summary())
                raise BackendError(f"TensorRT refuses the input shape {shape} for {self._input}: {reason}")
        self._shape = shape

    def outputs(self) -> tuple[TensorSpec, ...]:
        """With the input's shape as it is, and the types of their memory; raises BackendError where only a run tells
        a size.
        """
        return tuple(TensorSpec(name, dtype, self._size(name)) for name, dtype in self._output_types.items())

    def enqueue(self, stream: int, shape: tuple[int, ...], addresses: Iterable[tuple[str, int]]) -> None:
        """Queues an inference; addresses: of every tensor by its name. Raises BackendError."""
        # Several users share one context, so that each says anew what it means.
        self.set_shape(shape)
        for name, address in addresses:
            if not self._context.set_tensor_address(name, address):
                raise BackendError(f"TensorRT refuses the memory for its tensor {name}")
        with collect() as messages:
            if not self._context.execute_async_v3(stream):
                raise BackendError(f"inference failed: {explain(messages.summary())}")

    def _size(self, name: str) -> tuple[int, ...]:
        size = tuple(self._context.get_tensor_shape(name))
        if any(n < 0 for n in size):
            raise BackendError(
                f"the size of its output {name} depends on the data ({size}); export the model without NMS, which "
                "runs after the network here"
            )
        return size
