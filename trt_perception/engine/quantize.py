"""Puts QuantizeLinear and DequantizeLinear nodes into an ONNX model: INT8 that every TensorRT since 8.0 takes."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from trt_perception.backends.onnxruntime_runtime.library import first_line, onnxruntime_part
from trt_perception.engine.calibration import CalibrationImages
from trt_perception.engine.onnx_library import load_onnx, state_kernel_shapes
from trt_perception.errors import PerceptionError
from trt_perception.onnx_nodes import read_nodes
from trt_perception.types import Float32Array

LOG = logging.getLogger(__name__)

# Where INT8 pays: TensorRT runs these on its INT8 units; every further Q/DQ pair only costs a conversion.
QUANTIZED_OPERATORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")

# TensorRT 8 reads a convolution's weights only as floats with a Q/DQ pair behind them, fuses the pair in front of a
# convolution rather than behind it, and adds biases in FP32.
_FOR_TENSORRT = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": list(QUANTIZED_OPERATORS),
}


def is_quantized(model: bytes) -> bool:
    """True for a model that has its INT8 ranges inside."""
    return any(node.op_type == "QuantizeLinear" for node in read_nodes(model))


class _Reader:
    """ONNX Runtime's CalibrationDataReader: one dictionary of inputs a call, then None."""

    def __init__(self, input_name: str, tensors: Iterator[Float32Array]) -> None:
        self._input_name = input_name
        self._tensors = tensors

    def get_next(self) -> dict[str, Float32Array] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._input_name: tensor}


def add_quantization(
    onnx: Path, images: CalibrationImages, keep: Collection[str] = (), keep_tensors: Collection[str] = ()
) -> bytes:
    """The model with Q/DQ pairs around its convolutions and matrix products, but for the nodes of those names and for
    those that give these tensors.

    ONNX Runtime's static quantisation with symmetric per-channel INT8 weights and symmetric INT8 activations, which
    is what TensorRT accepts; it runs the model on the CPU over the pictures. Raises PerceptionError.
    """
    quantization: Any = onnxruntime_part("quantization")
    _require_names(onnx.read_bytes(), keep)
    try:
        session = onnxruntime_part().InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        places = entry.shape[0] if entry.shape and isinstance(entry.shape[0], int) else 1
        reader, network = _Reader(entry.name, images.batches(places)), f"{entry.type} {entry.shape}"
        del entry, session
    except Exception as error:  # the library's exceptions derive from nothing narrower
        raise PerceptionError(
            f"ONNX Runtime, which measures the ranges for INT8, cannot load {onnx}: {first_line(error)}; export it "
            "without operators of plugins, or let TensorRT calibrate (--int8Method=calibrate, up to 10)"
        ) from error
    with tempfile.TemporaryDirectory(prefix="trt_perception_") as folder:
        target = Path(folder) / "quantized.onnx"
        try:
            # ONNX Runtime prints its progress to standard output, which belongs to the command's own result.
            with redirect_stdout(sys.stderr):
                source, kept = _with_names(onnx, keep_tensors, Path(folder))
                quantization.quantize_static(
                    str(source),
                    str(target),
                    reader,
                    quant_format=quantization.QuantFormat.QDQ,
                    op_types_to_quantize=list(QUANTIZED_OPERATORS),
                    per_channel=True,
                    activation_type=quantization.QuantType.QInt8,
                    weight_type=quantization.QuantType.QInt8,
                    calibrate_method=quantization.CalibrationMethod.Entropy,
                    nodes_to_exclude=[*keep, *kept],
                    extra_options=_FOR_TENSORRT,
                )
        except PerceptionError:
            raise
        except Exception as error:  # as above
            raise PerceptionError(
                f"ONNX Runtime cannot quantise {onnx}: {first_line(error)}; its input is {network}, "
                f"pictures are prepared as {images.spec.channels}x{images.spec.height}x{images.spec.width}. Correct "
                "`input` in the model file where these differ, simplify the model (python -m onnxsim), or export it "
                "with opset 13 or newer"
            ) from error
        model = load_onnx(target.read_bytes())
    state_kernel_shapes(model)
    return bytes(model.SerializeToString())


def _with_names(onnx: Path, tensors: Collection[str], folder: Path) -> tuple[Path, list[str]]:
    """The names of the nodes that give these tensors, and the model, or a copy in `folder` where they had none."""
    model = onnx.read_bytes()
    givers = [node for node in read_nodes(model) if node.top_level and not set(tensors).isdisjoint(node.outputs)]
    if all(node.name for node in givers):
        return onnx, [node.name for node in givers]
    proto = load_onnx(model, onnx.parent)
    for giver in givers:
        proto.graph.node[giver.index].name = giver.name or f"not_quantised_{giver.index}"
    copy = folder / "named.onnx"
    copy.write_bytes(proto.SerializeToString())
    return copy, [proto.graph.node[giver.index].name for giver in givers]


def _require_names(model: bytes, names: Collection[str]) -> None:
    known = {node.name for node in read_nodes(model)}
    missing = sorted(set(names) - known)
    if missing:
        raise PerceptionError(f"--layerPrecisions: the ONNX has no node named {', '.join(missing)}")
