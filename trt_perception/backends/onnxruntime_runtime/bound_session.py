"""An ONNX Runtime session on the processor that writes into the same memory at every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trt_perception.types import AnyArray, TensorSpec

# Memory is kept for so many shapes of the input: the batch sizes of a few cameras.
_SHAPES = 8


class BoundSession:
    """Binds input and outputs to memory (I/O binding), so that no run allocates or frees a tensor.

    Only outputs whose shape follows from the input's are bound: those of fixed axes, but for a first one that bears
    the same name as the input's. ONNX Runtime allocates the others, such as boxes that the graph has chosen.
    """

    def __init__(self, session: Any, outputs: Sequence[TensorSpec]) -> None:
        self._session = session
        self._input = session.get_inputs()[0]
        self._outputs = tuple(outputs)
        first_axes = [entry.shape[:1] for entry in session.get_outputs()]
        # A free axis bears a name, a fixed one is a number.
        self._follows = [axis == self._input.shape[:1] and isinstance((*axis, 0)[0], str) for axis in first_axes]
        self._buffers: dict[tuple[int, ...], list[AnyArray | None]] = {}
        self._binding: Any = None
        self._bound: AnyArray | None = None

    def run(self, batch: AnyArray) -> tuple[AnyArray, ...]:
        """The outputs of a contiguous batch; they hold until the next run."""
        buffers = self._buffers.get(batch.shape)
        if buffers is None:
            return self._first_run(batch)
        if batch is not self._bound:
            self._bind(batch, buffers)
        self._session.run_with_iobinding(self._binding)
        if all(buffer is not None for buffer in buffers):
            return tuple(buffer for buffer in buffers if buffer is not None)
        values = self._binding.get_outputs()
        return tuple(v.numpy() if b is None else b for b, v in zip(buffers, values, strict=True))

    def _first_run(self, batch: AnyArray) -> tuple[AnyArray, ...]:
        """Runs without binding: a graph may give another shape than it declares, and ONNX Runtime only warns then."""
        arrays = tuple(np.asarray(array) for array in self._session.run(None, {self._input.name: batch}))
        if len(self._buffers) >= _SHAPES:
            self._buffers.clear()
        self._buffers[batch.shape] = [
            np.empty(array.shape, array.dtype) if self._is_fixed(index, batch, array) else None
            for index, array in enumerate(arrays)
        ]
        return arrays

    def _is_fixed(self, index: int, batch: AnyArray, array: AnyArray) -> bool:
        spec = self._outputs[index]
        shape = (len(batch), *spec.shape[1:]) if self._follows[index] else spec.shape
        return shape == array.shape and spec.dtype == array.dtype

    def _bind(self, batch: AnyArray, buffers: Sequence[AnyArray | None]) -> None:
        binding = self._session.io_binding()
        binding.bind_input(self._input.name, "cpu", 0, batch.dtype, batch.shape, batch.ctypes.data)
        for spec, buffer in zip(self._outputs, buffers, strict=True):
            if buffer is None:
                binding.bind_output(spec.name, "cpu")
            else:
                binding.bind_output(spec.name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
        # The binding holds addresses only: the array must live as long.
        self._binding, self._bound = binding, batch
