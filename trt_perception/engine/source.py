"""What the builder gets: the ONNX as it is or converted, and how FP16 and INT8 are asked for in this version."""

from __future__ import annotations

from dataclasses import dataclass

from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.engine.box_arithmetic import box_tensors, last_weighted
from trt_perception.engine.calibration import CalibrationImages
from trt_perception.engine.half_precision import convert_to_half
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.quantize import QUANTIZED_OPERATORS, add_quantization, is_quantized
from trt_perception.errors import PerceptionError
from trt_perception.onnx_nodes import read_nodes


@dataclass(frozen=True)
class Source:
    """model: ONNX bytes. flags: builder flags. calibrate: TensorRT calibrates over `images` or its cache.
    constrain_layers: the options' precisions are set on layers of the network. fp32_tensors: the layers that give these
    get FP32. notes: for the manifest.
    """

    model: bytes
    flags: tuple[str, ...]
    calibrate: bool
    images: CalibrationImages | None
    constrain_layers: bool
    fp32_tensors: frozenset[str]
    notes: tuple[str, ...]


def prepare_source(trt: TensorRt, options: BuildOptions, model: bytes, images: CalibrationImages | None) -> Source:
    """Expresses the options' precisions in the words of this TensorRT; raises PerceptionError where it cannot."""
    dialect = trt.dialect
    quantized = is_quantized(model)
    if quantized and not options.int8:
        raise PerceptionError(f"{options.onnx} is quantised (it has QuantizeLinear nodes); build it with --int8")
    notes: list[str] = []
    calibrate = options.int8 and not quantized and options.int8_by == "calibrate"
    if calibrate and dialect.int8_by != "calibrate":
        raise PerceptionError(
            f"{trt} has no INT8 calibrator; leave --int8Method and --calib out, or give --int8Method=qdq"
        )
    if options.layer_precisions and dialect.layer_precision_flag is None:
        _require_layers(trt, options, model)
    lower = [name for name, precision in options.layer_precisions.items() if precision != "int8"]
    if options.int8 and not quantized and not calibrate:
        if images is None:
            raise PerceptionError(
                "--int8 needs pictures of what the camera sees: give --calibImages=FOLDER, or with TensorRT up to 10 a "
                "calibration cache, --calib=FILE"
            )
        last = last_weighted(model) if options.fp32_boxes else ()
        model = add_quantization(
            options.onnx, images, lower, [n.outputs[0] for n in last if n.name not in options.layer_precisions]
        )
        notes.append(f"INT8 by Q/DQ nodes, ranges from {len(images.files)} pictures")
    has_ranges = options.calib is not None and options.calib.is_file()
    if calibrate and images is None and not has_ranges:
        raise PerceptionError("--int8 needs pictures or a calibration cache: give --calibImages=FOLDER or --calib=FILE")
    if calibrate and has_ranges:
        instead = "" if images is None else ", not from the pictures: remove it for new ones"
        notes.append(f"INT8 ranges from the calibration cache {options.calib}{instead}")
    lowered = options.fp16 or options.int8
    boxes = box_tensors(model) if lowered and options.fp32_boxes else frozenset()
    if options.fp16 and dialect.half_by == "convert":
        if options.int8:
            notes.append("layers that are not INT8 run in FP32: this TensorRT takes types from the model alone")
        else:
            named = [name for name, precision in options.layer_precisions.items() if precision == "fp32"]
            model = convert_to_half(model, keep=named, keep_tensors=boxes, folder=options.onnx.parent)
            notes.append("FP16 by converting the ONNX")
    if boxes:
        notes.append(f"FP32 for {len(boxes)} operators behind the last convolutions")
    if dialect.half_by == "convert":
        boxes = frozenset()
    constrain = bool(options.layer_precisions) and dialect.layer_precision_flag is not None
    wished = (
        ("FP16", options.fp16 and dialect.half_by == "flag"),
        ("INT8", options.int8 and _has_int8_flag(trt)),
        (dialect.layer_precision_flag, constrain),
        # A wish of the user's must be met; this one of ours may not make a build fail.
        (dialect.layer_preference_flag, bool(boxes) and not constrain),
    )
    return Source(
        model=model,
        flags=tuple(name for name, wanted in wished if wanted and name is not None),
        calibrate=calibrate,
        images=images,
        constrain_layers=constrain,
        fp32_tensors=boxes,
        notes=tuple(notes),
    )


def _require_layers(trt: TensorRt, options: BuildOptions, model: bytes) -> None:
    """Raises PerceptionError for what a model's own types cannot express, and for layers that it does not have."""
    nodes = {node.name: node for node in read_nodes(model)}
    missing = sorted(set(options.layer_precisions) - set(nodes))
    if missing:
        raise PerceptionError(f"--layerPrecisions: the ONNX has no node named {', '.join(missing)}")
    for name, precision in options.layer_precisions.items():
        needs = ""
        if precision == "fp16" and (options.int8 or not options.fp16):
            needs = "--fp16 without --int8"
        elif precision == "int8" and not options.int8:
            needs = "--int8"
        elif precision == "int8" and nodes[name].op_type not in QUANTIZED_OPERATORS:
            needs = f"one of {', '.join(QUANTIZED_OPERATORS)}, not {nodes[name].op_type}"
        if needs:
            raise PerceptionError(
                f"--layerPrecisions={name}:{precision} needs {needs}: {trt} takes each layer's type from the model"
            )


def _has_int8_flag(trt: TensorRt) -> bool:
    """The flag is needed for Q/DQ models too, wherever the calibrator exists."""
    return trt.dialect.int8_by == "calibrate"
