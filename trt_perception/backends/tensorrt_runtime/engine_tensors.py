"""What an engine says of its tensors: names, types, shapes, and the shapes that its input may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_perception.errors import BackendError
from trt_perception.types import AnyArray, TensorSpec

# TensorRT's element types that NumPy has too.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class InputRange:
    """Smallest, best and largest shape that the engine's first profile takes; all the same where shapes are fixed."""

    smallest: tuple[int, ...]
    best: tuple[int, ...]
    largest: tuple[int, ...]

    def holds(self, shape: Sequence[int]) -> bool:
        """True for a shape between smallest and largest."""
        return len(shape) == len(self.smallest) and all(
            low <= n <= high for low, n, high in zip(self.smallest, shape, self.largest, strict=True)
        )


@dataclass(frozen=True)
class EngineTensors:
    """input: the one that there is; range: its shapes. output_types: name → NumPy's name of the type in memory.
    delivered: the outputs as callers get them.
    """

    input: TensorSpec
    range: InputRange
    output_types: Mapping[str, str]
    delivered: tuple[TensorSpec, ...]


def engine_tensors(engine: Any, modes: Any) -> EngineTensors:
    """modes: TensorRT's TensorIOMode. Raises BackendError for types that NumPy lacks, for values that do not lie in
    memory as in an array, and unless there is one input.
    """
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise BackendError(
                f"its tensor {name} is {kind}; {', '.join(_DTYPES)} are supported: export the model with inputs "
                "and outputs of one of these"
            )
        layout = engine.get_tensor_format(name).name
        if layout != "LINEAR":
            # Others pad channels: memory of the shape's size would be too small.
            raise BackendError(
                f"its tensor {name} is laid out as {layout}; build the engine without --inputIOFormats and "
                "--outputIOFormats, or with :chw in them"
            )
        shape = tuple(n if n >= 0 else None for n in engine.get_tensor_shape(name))
        spec = TensorSpec(name, _DTYPES[kind], shape)
        (inputs if engine.get_tensor_mode(name) == modes.INPUT else outputs).append(spec)
    if len(inputs) != 1:
        raise BackendError(
            f"it has {len(inputs)} inputs ({'; '.join(map(str, inputs))}); a detector's network takes one image tensor"
        )
    return EngineTensors(
        inputs[0],
        _input_range(engine, inputs[0]),
        {spec.name: spec.dtype for spec in outputs},
        tuple(TensorSpec(o.name, _delivered(o.dtype), o.shape) for o in outputs),
    )


def as_delivered(array: AnyArray) -> AnyArray:
    """Half precision is handed on as float32, in which the heads compute."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _delivered(dtype: str) -> str:
    return "float32" if dtype == "float16" else dtype


def _input_range(engine: Any, spec: TensorSpec) -> InputRange:
    fixed = tuple(n for n in spec.shape if n is not None)
    if len(fixed) == len(spec.shape):
        return InputRange(fixed, fixed, fixed)
    low, best, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(spec.name, 0))
    return InputRange(low, best, high)
