"""ONNX models that are rewritten before TensorRT gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_perception.onnx_package import onnx_package


def load_onnx(model: bytes, folder: Path | None = None) -> Any:
    """The ModelProto of an ONNX file's content, with the weights that lie beside it in `folder`.

    Raises BackendUnavailableError where onnx is not installed. Where those weights lie is for
    external_data.external_files to check before.
    """
    library = onnx_package("rewriting the model")
    proto = library.load_from_string(model)
    if folder is not None:
        library.load_external_data_for_model(proto, str(folder))
    return proto


def state_kernel_shapes(model: Any) -> None:
    """Gives every convolution of a ModelProto its kernel_shape.

    ONNX lets it follow from the weights, but TensorRT 8 only looks at the weights of constants, which quantised ones
    are not.
    """
    shapes = {weights.name: list(weights.dims) for weights in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or any(a.name == "kernel_shape" for a in node.attribute):
            continue
        weights = node.input[1]
        while weights not in shapes and weights in made_by:
            weights = made_by[weights].input[0]
        if weights in shapes:
            attribute = node.attribute.add(name="kernel_shape", ints=shapes[weights][2:])
            attribute.type = type(attribute).INTS
