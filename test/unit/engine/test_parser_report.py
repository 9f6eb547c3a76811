"""The report on a failed parse, with parsers that answer as those of TensorRT 8 and 11 do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.engine.parser_report import describe_failure

pytest.importorskip("onnx", reason="the onnx package makes the test's models")
from test.unit.engine.onnx_models import branching_model, conv_model


class FakeError:
    def __init__(self, node: int, text: str) -> None:
        self._node, self._text = node, text

    def node(self) -> int:
        return self._node

    def desc(self) -> str:
        return self._text


class FakeParser:
    """Knows some operators."""

    def __init__(self, known: set[str], *errors: FakeError) -> None:
        self._known, self._errors = known, errors
        self.num_errors = len(errors)

    def get_error(self, index: int) -> FakeError:
        return self._errors[index]

    def supports_operator(self, name: str) -> bool:
        return name in self._known


def registry(*plugins: str) -> dict[str, Any]:
    creators = [SimpleNamespace(name=name) for name in plugins]
    return {"get_plugin_registry": lambda: SimpleNamespace(plugin_creator_list=creators, all_creators=creators)}


@pytest.mark.parametrize("version", [(8, 6, 0), (11, 4, 0)])
def test_every_operator_that_is_missing_is_listed(version: tuple[int, ...]) -> None:
    parser = FakeParser({"Relu"}, FakeError(0, "No importer registered for op: Conv"))
    report = describe_failure(fake_tensorrt(version, **registry()), parser, conv_model())
    assert "first (Conv), second (Conv)" in report
    assert "relu (Relu)" not in report
    assert "first (Conv): No importer registered for op: Conv" in report
    for remedy in ("opset", "onnxsim", "plugin"):
        assert remedy in report


def test_every_error_of_the_parser_is_given_with_its_node() -> None:
    errors = [FakeError(2, "bad kernel"), FakeError(2, "bad kernel"), FakeError(-1, "no output")]
    parser = FakeParser({"Relu", "Conv"}, *errors)
    report = describe_failure(fake_tensorrt(**registry()), parser, conv_model())
    assert "the parser said: second (Conv): bad kernel; the model: no output. What helps: export" in report
    assert "does not have" not in report


def test_plugins_count_as_supported_and_bodies_are_looked_into() -> None:
    parser = FakeParser({"If", "Relu"})
    model = branching_model()
    assert "other (my.domain.Odd)" in describe_failure(fake_tensorrt(**registry()), parser, model)
    with_plugin = describe_failure(fake_tensorrt(**registry("Odd")), parser, model)
    assert "does not have" not in with_plugin


def test_a_long_list_is_cut_and_counted() -> None:
    import onnx
    from onnx import helper

    nodes = [helper.make_node("Odd", ["x"], ["x"], name=f"n{index}") for index in range(45)]
    model = onnx.ModelProto(graph=onnx.GraphProto(node=nodes)).SerializeToString()
    parser = FakeParser(set())
    assert "n39 (Odd) and 5 more" in describe_failure(fake_tensorrt(**registry()), parser, model)
