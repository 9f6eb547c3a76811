"""Small ONNX networks for the GPU tests: like a detector's, with random weights, so that they build in seconds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SIDE = 64
CHANNELS = 16
ROWS = 14
# What the last convolution is given, so that boxes are of all sizes and lie everywhere in the picture.
_BOX_GAIN = 40.0
_BOX_OFFSET_PX = (32.0, 32.0, 24.0, 24.0)


def write_network(
    path: Path,
    *,
    dynamic: bool = False,
    dtype: str = "FLOAT",
    extra: tuple[str, ...] = (),
    pixels: bool = False,
    boxes: bool = False,
    seed: int = 1,
) -> Path:
    """images (1, 3, 64, 64) → output0 (1, 14, 256): three convolutions. dynamic: batch, height and width are free.

    extra: operators put in between that no runtime knows, each used as a node of its own. pixels: the results are
    scaled by 8 and lie around 300, as coordinates do. boxes: the first four rows are boxes in a picture of 64x64, of
    which some suppress others; without it they are next to nothing.
    """
    onnx: Any = pytest.importorskip("onnx", reason="the onnx package makes the test's networks")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rng = np.random.default_rng(seed)
    widths = [3, CHANNELS, CHANNELS, ROWS]
    nodes, weights = [], []
    previous = "images"
    if dtype == "UINT8":
        nodes.append(helper.make_node("Cast", ["images"], ["as_float"], name="to_float", to=onnx.TensorProto.FLOAT))
        previous = "as_float"
    for index, (before, after) in enumerate(itertools.pairwise(widths)):
        scale = 1.0 / np.sqrt(before * 9)
        kernel = rng.normal(scale=scale, size=(after, before, 3, 3)).astype(np.float32)
        bias = rng.normal(scale=0.1, size=after).astype(np.float32)
        if boxes and after == ROWS:
            kernel[:4] *= _BOX_GAIN
            bias[:4] = _BOX_OFFSET_PX
        weights += [numpy_helper.from_array(kernel, f"w{index}"), numpy_helper.from_array(bias, f"b{index}")]
        nodes.append(
            helper.make_node(
                "Conv",
                [previous, f"w{index}", f"b{index}"],
                [f"c{index}"],
                name=f"conv{index}",
                pads=[1, 1, 1, 1],
                strides=[2, 2] if index < 2 else [1, 1],
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu{index}"))
        previous = f"r{index}"
    for index, operator in enumerate(extra):
        nodes.append(helper.make_node(operator, [previous], [f"x{index}"], name=f"{operator.lower()}_{index}"))
        previous = f"x{index}"
    weights.append(numpy_helper.from_array(np.array([0, ROWS, -1], np.int64), "flat"))
    nodes.append(helper.make_node("Reshape", [previous, "flat"], ["cells" if pixels else "output0"], name="reshape"))
    if pixels:
        weights += [numpy_helper.from_array(np.array(value, np.float32), str(value)) for value in (8.0, 300.0)]
        nodes.append(helper.make_node("Mul", ["cells", "8.0"], ["scaled"], name="scale"))
        nodes.append(helper.make_node("Add", ["scaled", "300.0"], ["output0"], name="shift"))
    size: list[int | str] = ["batch", 3, "height", "width"] if dynamic else [1, 3, SIDE, SIDE]
    kind = getattr(onnx.TensorProto, dtype)
    anchors: list[int | str] = ["batch", ROWS, "anchors"] if dynamic else [1, ROWS, SIDE // 4 * SIDE // 4]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", kind, size)],
        [helper.make_tensor_value_info("output0", onnx.TensorProto.FLOAT, anchors)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_suppressing_network(path: Path) -> Path:
    """images (1, 3, 64, 64), taken for 3072 boxes with scores of 4 classes → what EfficientNMS_TRT keeps of them."""
    onnx: Any = pytest.importorskip("onnx", reason="the onnx package makes the test's networks")
    helper = onnx.helper
    nodes = [
        helper.make_node("Reshape", ["images", "rows"], ["boxes"], name="rows"),
        helper.make_node(
            "EfficientNMS_TRT",
            ["boxes", "boxes"],
            ["num_detections", "detection_boxes", "detection_scores", "detection_classes"],
            name="nms",
            plugin_version="1",
            background_class=-1,
            max_output_boxes=10,
            score_threshold=0.25,
            iou_threshold=0.45,
            score_activation=0,
            box_coding=0,
        ),
    ]
    rows = onnx.numpy_helper.from_array(np.array([1, SIDE * SIDE * 3 // 4, 4], np.int64), "rows")
    number, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    outputs = {"num_detections": (whole, [1, 1]), "detection_boxes": (number, [1, 10, 4])}
    outputs |= {"detection_scores": (number, [1, 10]), "detection_classes": (whole, [1, 10])}
    graph = helper.make_graph(
        nodes,
        "suppressing",
        [helper.make_tensor_value_info("images", number, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [rows],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def reference(onnx_file: Path, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What ONNX Runtime computes on the CPU."""
    runtime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime computes the reference")
    session = runtime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    output: np.ndarray[Any, Any] = session.run(None, {"images": batch})[0]
    return output


def activations(onnx_file: Path, batch: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What ONNX Runtime computes behind every Relu of `write_network`, picture by picture; name → all of it."""
    onnx: Any = pytest.importorskip("onnx", reason="the onnx package opens the test's network")
    runtime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime computes the reference")
    model = onnx.load(str(onnx_file))
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [session.run(names, {"images": picture[None]}) for picture in batch]
    return dict(zip(names, map(np.concatenate, zip(*outputs, strict=True)), strict=True))


def relative_error(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Norm of the difference over the norm of the reference, in float64."""
    difference = np.linalg.norm(got.astype(np.float64) - expected.astype(np.float64))
    return float(difference / np.linalg.norm(expected.astype(np.float64)))
