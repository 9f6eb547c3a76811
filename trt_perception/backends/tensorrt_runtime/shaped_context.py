"""An execution context that counts how often its input changes shape, since CUDA graphs depend on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class ShapedContext:
    """One execution context of an engine with one input.

    changes: how often the input's shape was another one. A graph that was recorded before the last change does not hold
    any more, not even when the shape is the old one again: it is made of launches, and what TensorRT keeps for the
    shape beside them lies in the context (TensorRT's developer guide, "CUDA Graphs").
    """

    def __init__(self, context: Any, input_name: str) -> None:
        self._context = context
        self._input = input_name
        self._shape: tuple[int, ...] | None = None
        self.changes = 0

    def set_shape(self, shape: tuple[int, ...]) -> bool:
        """False where TensorRT refuses it."""
        if shape == self._shape:
            return True
        self.changes += 1
        taken = bool(self._context.set_input_shape(self._input, shape))
        self._shape = shape if taken else None
        return taken

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Of a tensor with the input's shape as it is; negative where that is not known before a run."""
        return tuple(self._context.get_tensor_shape(name))

    def enqueue(self, stream: int, addresses: Iterable[tuple[str, int]]) -> str | None:
        """Queues an inference; addresses: of every tensor by its name. What was refused, None where nothing was."""
        for name, address in addresses:
            if not self._context.set_tensor_address(name, address):
                return f"TensorRT refuses the memory for its tensor {name}"
        return None if self._context.execute_async_v3(stream) else "inference failed"
