"""How FP16 and INT8 are asked for in each version, with real conversions on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.engine.calibration import CalibrationImages
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.source import prepare_source
from trt_perception.errors import PerceptionError
from trt_perception.model_file import InputSpec
from trt_perception.onnx_nodes import read_nodes

pytest.importorskip("onnx", reason="conversions need the onnx package")
pytest.importorskip("onnxruntime", reason="conversions need onnxruntime")
import onnxruntime as ort
from onnx import TensorProto, load_from_string, save_model

from test.unit.engine.onnx_models import conv_model

SIDE = 16
OLD, NEW, NEWEST = (8, 6, 0), (10, 3, 0), (11, 4, 0)


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(conv_model(SIDE))
    return BuildOptions(onnx)


@pytest.fixture
def images(tmp_path: Path) -> CalibrationImages:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (20, 30, 3), np.uint8))
    return CalibrationImages(folder, InputSpec(SIDE, SIDE), count=4)


def run(model: bytes, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    output: np.ndarray[Any, Any] = session.run(None, {"images": batch})[0]
    return output


def relative_error(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("version", [OLD, NEW])
def test_fp16_is_a_flag_up_to_10(options: BuildOptions, version: tuple[int, ...]) -> None:
    model = options.onnx.read_bytes()
    source = prepare_source(fake_tensorrt(version), replace(options, fp16=True), model, None)
    assert source.flags == ("FP16",)
    assert source.model == model


def test_fp16_is_in_the_model_on_11(options: BuildOptions) -> None:
    model = options.onnx.read_bytes()
    source = prepare_source(fake_tensorrt(NEWEST), replace(options, fp16=True), model, None)
    assert source.flags == ()
    assert "converting" in source.notes[0]
    assert {w.data_type for w in load_from_string(source.model).graph.initializer} == {TensorProto.FLOAT16}
    batch = np.random.default_rng(1).random((1, 3, SIDE, SIDE), np.float32)
    converted = run(source.model, batch)
    assert converted.dtype == np.float32
    assert 0 < relative_error(converted, run(model, batch)) < 5e-3


def test_layers_kept_in_fp32_stay_out_of_the_conversion(options: BuildOptions) -> None:
    kept = replace(options, fp16=True, layer_precisions={"second": "fp32"})
    source = prepare_source(fake_tensorrt(NEWEST), kept, options.onnx.read_bytes(), None)
    assert not source.constrain_layers
    kinds = {w.name: w.data_type for w in load_from_string(source.model).graph.initializer}
    assert (kinds["w1"], kinds["w2"]) == (TensorProto.FLOAT16, TensorProto.FLOAT)


@pytest.mark.parametrize("how", [{"int8_method": "calibrate"}, {"calib": Path("int8.calib")}], ids=["named", "cache"])
def test_int8_can_be_calibrated_up_to_10(options: BuildOptions, images: CalibrationImages, how: dict[str, Any]) -> None:
    wanted = replace(options, int8=True, fp16=True, layer_precisions={"first": "fp32"}, **how)
    source = prepare_source(fake_tensorrt(OLD), wanted, options.onnx.read_bytes(), images)
    assert source.flags == ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS")
    assert source.calibrate and source.constrain_layers
    with pytest.raises(PerceptionError, match="no INT8 calibrator"):
        prepare_source(fake_tensorrt(NEWEST), wanted, options.onnx.read_bytes(), images)


def test_int8_is_by_qdq_where_nothing_is_said(options: BuildOptions, images: CalibrationImages) -> None:
    wanted = replace(options, int8=True)
    assert not prepare_source(fake_tensorrt(OLD), wanted, options.onnx.read_bytes(), images).calibrate
    assert wanted.key_options("")["int8Method"] == "qdq"
    with pytest.raises(PerceptionError, match="--calibImages"):
        prepare_source(fake_tensorrt(OLD), wanted, options.onnx.read_bytes(), None)


def test_ranges_from_a_cache_are_told(options: BuildOptions, images: CalibrationImages, tmp_path: Path) -> None:
    wanted = replace(options, int8=True, calib=tmp_path / "ranges.cache")
    model = options.onnx.read_bytes()
    assert prepare_source(fake_tensorrt(OLD), wanted, model, images).notes == ()
    (tmp_path / "ranges.cache").write_bytes(b"TRT-8600")
    (note,) = prepare_source(fake_tensorrt(OLD), wanted, model, None).notes
    assert note.startswith("INT8 ranges from the calibration cache") and note.endswith("ranges.cache")
    (note,) = prepare_source(fake_tensorrt(OLD), wanted, model, images).notes
    assert note.endswith("not from the pictures: remove it for new ones")


@pytest.mark.parametrize(("version", "flags"), [(OLD, ("INT8",)), (NEWEST, ())])
def test_int8_by_qdq_works_everywhere(
    options: BuildOptions, images: CalibrationImages, version: tuple[int, ...], flags: tuple[str, ...]
) -> None:
    wanted = replace(options, int8=True, int8_method="qdq")
    model = options.onnx.read_bytes()
    source = prepare_source(fake_tensorrt(version), wanted, model, images)
    assert source.flags == flags and not source.calibrate
    kinds = [node.op_type for node in read_nodes(source.model)]
    assert kinds.count("Conv") == 2 and kinds.count("QuantizeLinear") >= 2
    batch = next(images.batches())
    assert 0 < relative_error(run(source.model, batch), run(model, batch)) < 0.05


def test_quantised_convolutions_state_their_kernel(options: BuildOptions, images: CalibrationImages) -> None:
    wanted = replace(options, int8=True, int8_method="qdq")
    source = prepare_source(fake_tensorrt(OLD), wanted, options.onnx.read_bytes(), images)
    nodes = [node for node in load_from_string(source.model).graph.node if node.op_type == "Conv"]
    kernels = [list(a.ints) for node in nodes for a in node.attribute if a.name == "kernel_shape"]
    assert kernels == [[3, 3], [3, 3]]


def test_nothing_is_printed_to_standard_output(
    options: BuildOptions, images: CalibrationImages, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_source(
        fake_tensorrt(OLD), replace(options, int8=True, int8_method="qdq"), options.onnx.read_bytes(), images
    )
    assert capsys.readouterr().out == ""


def test_a_layer_kept_out_of_int8_is_not_quantised(options: BuildOptions, images: CalibrationImages) -> None:
    def quantised(**values: Any) -> int:
        wanted = replace(options, int8=True, int8_method="qdq", **values)
        source = prepare_source(fake_tensorrt(NEWEST), wanted, options.onnx.read_bytes(), images)
        return sum(node.op_type == "DequantizeLinear" for node in read_nodes(source.model))

    assert quantised(layer_precisions={"first": "fp32"}) < quantised()
    # The last one is, unless it is asked for.
    assert quantised() < quantised(layer_precisions={"second": "int8"}) == quantised(fp32_boxes=False)
    with pytest.raises(PerceptionError, match="no node named third"):
        quantised(layer_precisions={"third": "fp32"})


def test_the_last_convolutions_are_left_alone_whether_they_have_names_or_not(
    options: BuildOptions, images: CalibrationImages
) -> None:
    proto = load_from_string(options.onnx.read_bytes())
    for node in proto.graph.node:
        node.name = ""
    options.onnx.write_bytes(proto.SerializeToString())
    wanted = replace(options, int8=True, int8_method="qdq")
    source = prepare_source(fake_tensorrt(NEWEST), wanted, options.onnx.read_bytes(), images)
    first, last = (node for node in read_nodes(source.model) if node.op_type == "Conv")
    assert first.inputs[0] != "images" and last.inputs[1] == "w2"


def test_11_has_no_calibrator(options: BuildOptions, images: CalibrationImages) -> None:
    wanted = replace(options, int8=True, int8_method="calibrate")
    with pytest.raises(PerceptionError, match="--int8Method=qdq"):
        prepare_source(fake_tensorrt(NEWEST), wanted, options.onnx.read_bytes(), images)


@pytest.mark.parametrize("version", [OLD, NEWEST])
def test_int8_without_pictures_says_what_it_needs(options: BuildOptions, version: tuple[int, ...]) -> None:
    with pytest.raises(PerceptionError, match="--calibImages"):
        prepare_source(fake_tensorrt(version), replace(options, int8=True), options.onnx.read_bytes(), None)


def test_a_calibration_cache_stands_in_for_pictures(options: BuildOptions, tmp_path: Path) -> None:
    cache = tmp_path / "calib"
    cache.write_bytes(b"TRT-8600-EntropyCalibration2\n")
    wanted = replace(options, int8=True, calib=cache)
    assert prepare_source(fake_tensorrt(OLD), wanted, options.onnx.read_bytes(), None).calibrate


def test_a_model_with_its_own_ranges_needs_nothing(options: BuildOptions, images: CalibrationImages) -> None:
    wanted = replace(options, int8=True, int8_method="qdq")
    quantised = prepare_source(fake_tensorrt(OLD), wanted, options.onnx.read_bytes(), images).model
    again = prepare_source(fake_tensorrt(OLD), replace(options, int8=True), quantised, None)
    assert again.model == quantised and not again.calibrate and again.flags == ("INT8",)
    with pytest.raises(PerceptionError, match="build it with --int8"):
        prepare_source(fake_tensorrt(OLD), options, quantised, None)


def test_pictures_are_spread_over_the_folder_and_hashed(images: CalibrationImages) -> None:
    folder = images.files[0].parent
    fewer = CalibrationImages(folder, images.spec, count=2)
    assert [path.name for path in fewer.files] == ["0.png", "2.png"]
    assert fewer.digest() != images.digest()
    assert next(fewer.batches()).shape == (1, 3, SIDE, SIDE)


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(PerceptionError, match="--calibImages"):
            CalibrationImages(folder, InputSpec(SIDE, SIDE), 10)


def test_a_broken_picture_is_named(images: CalibrationImages) -> None:
    images.files[0].write_bytes(b"no picture")
    with pytest.raises(PerceptionError, match=r"0\.png cannot be read"):
        list(images.batches())


def beside(options: BuildOptions) -> BuildOptions:
    """The same model with its weights in a file of their own."""
    onnx = options.onnx.with_name("external.onnx")
    save_model(load_from_string(options.onnx.read_bytes()), str(onnx), save_as_external_data=True, size_threshold=0)
    return replace(options, onnx=onnx)


def test_weights_that_lie_beside_the_model_are_converted_too(options: BuildOptions, images: CalibrationImages) -> None:
    external = beside(options)
    batch = next(images.batches())
    expected = run(options.onnx.read_bytes(), batch)
    half = prepare_source(fake_tensorrt(NEWEST), replace(external, fp16=True), external.onnx.read_bytes(), None)
    assert 0 < relative_error(run(half.model, batch), expected) < 5e-3
    wanted = replace(external, int8=True)
    quantised = prepare_source(fake_tensorrt(NEWEST), wanted, external.onnx.read_bytes(), images)
    assert 0 < relative_error(run(quantised.model, batch), expected) < 0.05


@pytest.mark.parametrize(
    ("layers", "allowed", "words"),
    [
        ({"third": "fp32"}, {"fp16": True}, "no node named third"),
        ({"first": "fp16"}, {}, "first:fp16 needs --fp16 without --int8"),
        ({"first": "fp16"}, {"fp16": True, "int8": True}, "first:fp16 needs --fp16 without --int8"),
        ({"first": "int8"}, {"fp16": True}, "first:int8 needs --int8"),
        ({"relu": "int8"}, {"int8": True}, "relu:int8 needs one of Conv, .*, not Relu"),
    ],
)
def test_11_refuses_layer_types_that_a_model_cannot_state(
    options: BuildOptions, images: CalibrationImages, layers: dict[str, str], allowed: dict[str, Any], words: str
) -> None:
    wanted = replace(options, layer_precisions=layers, **allowed)
    with pytest.raises(PerceptionError, match=words):
        prepare_source(fake_tensorrt(NEWEST), wanted, options.onnx.read_bytes(), images)


def test_a_batch_that_is_fixed_is_filled_for_qdq(options: BuildOptions, images: CalibrationImages) -> None:
    model = load_from_string(options.onnx.read_bytes())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    options.onnx.write_bytes(model.SerializeToString())
    wanted = replace(options, int8=True)
    source = prepare_source(fake_tensorrt(NEWEST), wanted, options.onnx.read_bytes(), images)
    (batch, _) = images.batches(3)
    assert 0 < relative_error(run(source.model, batch), run(options.onnx.read_bytes(), batch)) < 0.05


def test_what_onnxruntime_refuses_is_said_in_words(options: BuildOptions, images: CalibrationImages) -> None:
    wanted = replace(options, int8=True)
    larger = CalibrationImages(images.files[0].parent, InputSpec(2 * SIDE, SIDE), count=4)
    words = r"\[1, 3, 16, 16\], pictures are prepared as 3x16x32.*Correct `input` in the model file"
    with pytest.raises(PerceptionError, match=words):
        prepare_source(fake_tensorrt(NEWEST), wanted, options.onnx.read_bytes(), larger)
    model = load_from_string(options.onnx.read_bytes())
    model.graph.node[1].op_type = "MyOp"
    options.onnx.write_bytes(model.SerializeToString())
    with pytest.raises(PerceptionError, match=r"cannot load .*MyOp.*--int8Method=calibrate"):
        prepare_source(fake_tensorrt(OLD), wanted, options.onnx.read_bytes(), images)
