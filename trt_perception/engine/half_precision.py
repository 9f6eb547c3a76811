"""FP16 for TensorRT 11, which takes each layer's type from the model: the ONNX itself is converted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from trt_perception.backends.onnxruntime_runtime.library import onnxruntime_part
from trt_perception.engine.onnx_library import load_onnx
from trt_perception.errors import PerceptionError


def convert_to_half(model: bytes, keep: Collection[str] = ()) -> bytes:
    """The model with float16 weights and arithmetic; inputs and outputs stay float32, `keep` nodes as well.

    Done by ONNX Runtime's own converter (onnxruntime.transformers.float16), which casts around the operators that
    must stay float32. Raises PerceptionError.
    """
    converter: Any = onnxruntime_part("transformers.float16")
    try:
        converted = converter.convert_float_to_float16(load_onnx(model), keep_io_types=True, node_block_list=list(keep))
    except (ValueError, RuntimeError, TypeError) as error:
        raise PerceptionError(
            f"ONNX Runtime cannot convert the model to FP16: {error}; simplify it (python -m onnxsim), or build "
            "without --fp16"
        ) from error
    return bytes(converted.SerializeToString())
