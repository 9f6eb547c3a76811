"""FP16 for TensorRT 11, which takes each layer's type from the model: the ONNX itself is converted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from trt_perception.backends.onnxruntime_backend import onnxruntime_part
from trt_perception.engine.onnx_library import load_onnx
from trt_perception.errors import PerceptionError


def convert_to_half(model: bytes, keep: Collection[str] = (), keep_tensors: Collection[str] = ()) -> bytes:
    """The model with float16 weights and arithmetic; inputs and outputs stay float32, `keep` nodes as well, and those
    that give `keep_tensors`.

    Done by ONNX Runtime's own converter (onnxruntime.transformers.float16), which casts around the operators that
    must stay float32. Raises PerceptionError.
    """
    converter: Any = onnxruntime_part("transformers.float16")
    proto = load_onnx(model)
    kept, tensors = set(keep), set(keep_tensors)
    for index, node in enumerate(proto.graph.node):
        if not tensors.isdisjoint(node.output):
            node.name = node.name or f"kept_{index}"  # the converter knows nodes by their names only
            kept.add(node.name)
    try:
        converted = converter.convert_float_to_float16(proto, keep_io_types=True, node_block_list=sorted(kept))
    except (ValueError, RuntimeError, TypeError) as error:
        raise PerceptionError(
            f"ONNX Runtime cannot convert the model to FP16: {error}; simplify it (python -m onnxsim), or build "
            "without --fp16"
        ) from error
    return bytes(converted.SerializeToString())
