from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trt_perception.engine.options import BuildOptions, parse_hardware_level, parse_layer_precisions
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.errors import PerceptionError

ONNX = Path("model.onnx")


@pytest.mark.parametrize(
    ("fp16", "int8", "precision"), [(False, False, "fp32"), (True, False, "fp16"), (True, True, "int8")]
)
def test_the_lowest_precision_names_the_engine(fp16: bool, int8: bool, precision: str) -> None:
    assert BuildOptions(ONNX, fp16=fp16, int8=int8).precision == precision


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimization_level": 6}, "0 to 5"),
        ({"exclude_lean_runtime": True}, "--versionCompatible"),
        ({"layer_precisions": {"conv": "fp8"}}, "conv is 'fp8'"),
        ({"hardware_compatibility_level": "ampere"}, r"'ampere'; expected none, ampere\+, sameComputeCapability"),
        ({"tactic_sources": "CUDNN"}, r"'CUDNN' must begin with \+ or -"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(PerceptionError, match=words):
        BuildOptions(ONNX, **values)


def test_trtexecs_words_for_other_gpus_are_taken_in_any_case() -> None:
    assert [parse_hardware_level(text) for text in ("None", "Ampere+", "samecomputecapability", "any")] == [
        "none",
        "ampere+",
        "sameComputeCapability",
        "any",
    ]


def test_layer_precisions_may_have_colons_in_their_names() -> None:
    assert parse_layer_precisions("a:fp32,net/b:0:fp16") == {"a": "fp32", "net/b:0": "fp16"}
    with pytest.raises(PerceptionError, match="conv1:fp32"):
        parse_layer_precisions("fp32")


@pytest.mark.parametrize(
    "change",
    [
        {"fp16": True},
        {"no_tf32": True},
        {"version_compatible": True},
        {"hardware_compatibility_level": "ampere+"},
        {"optimization_level": 2},
        {"memory_pools": {"workspace": 1}},
        {"layer_precisions": {"a": "fp32"}},
        {"tactic_sources": "-CUDNN"},
        {"shapes": ShapeOptions(best={"i": (1, 3)})},
        {"int8": True},
    ],
)
def test_everything_that_changes_the_engine_is_in_its_key(change: dict[str, Any]) -> None:
    def key(options: BuildOptions) -> tuple[object, ...]:
        return options.precision, options.key_shapes(), options.key_options("model")

    assert key(BuildOptions(ONNX, **change)) != key(BuildOptions(ONNX))


def test_where_boxes_are_computed_is_in_the_key_of_lower_precisions() -> None:
    def key(**change: Any) -> dict[str, str]:
        return BuildOptions(ONNX, **change).key_options("")

    assert key(fp16=True) != key(fp16=True, fp32_boxes=False)
    assert key() == key(fp32_boxes=False)


def test_what_int8_rests_on_is_in_the_key() -> None:
    options = BuildOptions(ONNX, int8=True)
    assert options.key_options("images:a") != options.key_options("images:b")
    assert "calibration" not in BuildOptions(ONNX).key_options("images:a")


def test_shapes_in_the_key_show_what_was_not_given() -> None:
    shapes = ShapeOptions(best={"i": (1, 3)}, largest={"i": (4, 3)})
    assert BuildOptions(ONNX, shapes=shapes).key_shapes() == {"i": "-/1x3/4x3"}
