"""The small network as a TensorRT engine."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from test.contract.small_network import BIAS, METADATA, SIDE_PX, WEIGHT
from trt_perception.backends.cuda_frames.driver import require_gpu
from trt_perception.engine.build import build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.errors import BackendUnavailableError


def lacks_gpu() -> str | None:
    """Why no engine can be built and run here, None when one can."""
    absent = [name for name in ("tensorrt", "pycuda", "onnx") if importlib.util.find_spec(name) is None]
    if absent:
        return f"{absent[0]} is not installed"
    try:
        require_gpu(0)
    except BackendUnavailableError as error:
        return f"no CUDA device: {error}"
    return None


def write_engine(path: Path) -> None:
    """Batches of 1 to 4, full FP32. TRT_PERCEPTION_TEST_TACTICS restricts the libraries that TensorRT may use."""
    onnx = path.with_suffix(".onnx")
    write_onnx_without_torch(onnx)
    shapes = [{"images": (count, 3, SIDE_PX, SIDE_PX)} for count in (1, 1, 4)]
    tactics = os.environ.get("TRT_PERCEPTION_TEST_TACTICS", "")
    build_engine(BuildOptions(onnx, path, no_tf32=True, shapes=ShapeOptions(*shapes), tactic_sources=tactics))


def write_onnx_without_torch(path: Path) -> None:
    """The network of small_network.write_onnx, for the Pythons of TensorRT 8, which have no torch."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node(
            "Conv", ["images", "w", "b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], name="conv"
        ),
        helper.make_node("Relu", ["c"], ["features"], name="relu"),
        helper.make_node("ReduceMean", ["features"], ["means"], axes=[2, 3], keepdims=0, name="mean"),
    ]
    side = SIDE_PX // 2
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE_PX, SIDE_PX])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4, side, side]),
            helper.make_tensor_value_info("means", TensorProto.FLOAT, ["batch", 4]),
        ],
        [numpy_helper.from_array(np.asarray(w), name) for w, name in ((WEIGHT, "w"), (BIAS, "b"))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, METADATA)
    onnx.save(model, str(path))
