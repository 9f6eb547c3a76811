"""What is kept in FP32 behind the last convolutions, and what that is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.engine.box_arithmetic import box_tensors, last_weighted
from trt_perception.engine.builder import NativeBuild
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.source import Source, prepare_source
from trt_perception.models import load_model
from trt_perception.onnx_nodes import read_nodes

pytest.importorskip("onnx", reason="the onnx package makes the test's models")
from test.unit.engine.onnx_models import branching_model, conv_model, yolov8_tail

YOLOV8_BOXES = {"corner", "opposite", "sum", "center", "size", "in_cells", "boxes", "scores", "out"}
OLD, NEWEST = (8, 6, 0), (11, 4, 0)


def kinds(model: bytes) -> list[str]:
    boxes = box_tensors(model)
    return [node.op_type for node in read_nodes(model) if boxes.intersection(node.outputs)]


def test_the_demo_models_decoding_and_nothing_else() -> None:
    assert kinds(load_model("digits").artifact("onnx").path.read_bytes()) == ["Sigmoid", "Mul", "Add"]


def test_yolov8_from_distances_on() -> None:
    # Not the softmax, which has a convolution behind it; not what only moves a convolution's results.
    assert box_tensors(yolov8_tail()) == YOLOV8_BOXES


def test_the_last_weighted_operators_are_those_that_boxes_and_scores_come_from() -> None:
    assert [node.name for node in last_weighted(yolov8_tail())] == ["conv_score_map", "conv_sides_map"]
    assert [node.name for node in last_weighted(conv_model())] == ["second"]
    nameless = last_weighted(yolov8_tail(named=False))
    assert [(node.name, *node.outputs) for node in nameless] == [("", "score_map"), ("", "sides_map")]


def test_what_the_model_says_is_int8_is_left_alone() -> None:
    assert box_tensors(yolov8_tail(quantized=True)) == YOLOV8_BOXES  # neither the Q/DQ pair nor what it is based on


def test_what_a_branch_reads_is_needed_by_it() -> None:
    assert box_tensors(branching_model(behind=True)) == frozenset()


def test_an_activation_belongs_to_its_convolution() -> None:
    assert box_tensors(conv_model()) == frozenset()


def test_a_network_without_convolutions_has_none(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch exports the network")
    from test.blob_network import write_onnx

    for layout in ("yolov8", "torchvision"):
        write_onnx(tmp_path / "blob.onnx", layout, {})
        assert box_tensors((tmp_path / "blob.onnx").read_bytes()) == frozenset()


@pytest.fixture
def tail(tmp_path: Path) -> BuildOptions:
    onnx = tmp_path / "tail.onnx"
    onnx.write_bytes(yolov8_tail())
    return BuildOptions(onnx, fp16=True)


def source(version: tuple[int, ...], options: BuildOptions) -> Source:
    return prepare_source(fake_tensorrt(version), options, options.onnx.read_bytes(), None)


def test_up_to_10_layers_are_asked_to_be_fp32_and_a_users_wish_makes_it_a_must(tail: BuildOptions) -> None:
    asked = source(OLD, tail)
    assert asked.flags == ("FP16", "PREFER_PRECISION_CONSTRAINTS")
    assert asked.fp32_tensors == YOLOV8_BOXES and "FP32 for 9 operators" in asked.notes[0]
    assert source(OLD, replace(tail, layer_precisions={"a": "fp32"})).flags == ("FP16", "OBEY_PRECISION_CONSTRAINTS")


@pytest.mark.parametrize("change", [{"fp32_boxes": False}, {"fp16": False}])
def test_it_can_be_turned_off_and_means_nothing_in_fp32(tail: BuildOptions, change: dict[str, Any]) -> None:
    plain = source(OLD, replace(tail, **change))
    assert (plain.fp32_tensors, plain.notes) == (frozenset(), ())
    assert "PREFER_PRECISION_CONSTRAINTS" not in plain.flags


class FakeLayer:
    """ILayer, as far as precisions go."""

    def __init__(self, outputs: dict[str, str]) -> None:
        self._outputs = [SimpleNamespace(name=name, dtype=dtype) for name, dtype in outputs.items()]
        self.num_outputs = len(outputs)
        self.precision = "any"
        self.types: list[str] = []

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def set_output_type(self, index: int, dtype: str) -> None:
        self.types.append(dtype)


def test_layers_are_found_by_what_they_give(tail: BuildOptions) -> None:
    layers = [FakeLayer({"box_map": "FLOAT"}), FakeLayer({"boxes": "FLOAT"}), FakeLayer({"scores": "INT32"})]
    network = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    trt = fake_tensorrt(OLD, DataType=SimpleNamespace(FLOAT="FLOAT"))
    build = NativeBuild(trt, None, tail, source(OLD, tail), None)  # type: ignore[arg-type]
    build._network = network
    build._keep_in_fp32()
    assert [(layer.precision, layer.types) for layer in layers] == [("any", []), ("FLOAT", ["FLOAT"]), ("any", [])]


@pytest.mark.parametrize("named", [True, False])
def test_on_11_boxes_stay_out_of_the_conversion(tmp_path: Path, named: bool) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime converts and runs the models")
    options = BuildOptions(tmp_path / "tail.onnx", fp16=True)
    options.onnx.write_bytes(yolov8_tail(named=named))
    images = {"images": np.random.default_rng(4).random((1, 3, 8, 8), np.float32)}

    def boxes(model: bytes) -> Any:
        return runtime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, images)[0][:, :4]

    exact = boxes(options.onnx.read_bytes())
    kept = np.abs(boxes(source(NEWEST, options).model) - exact).max()
    rounded = np.abs(boxes(source(NEWEST, replace(options, fp32_boxes=False)).model) - exact).max()
    assert source(NEWEST, options).flags == ()
    assert 0 < kept < rounded
