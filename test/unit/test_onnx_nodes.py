from __future__ import annotations

import pytest

from trt_perception.errors import ModelFileError
from trt_perception.onnx_nodes import OnnxNode, read_nodes

pytest.importorskip("onnx", reason="the onnx package makes the test's models")
from test.unit.engine.onnx_models import branching_model, conv_model


def test_every_node_is_read() -> None:
    assert read_nodes(conv_model()) == [
        OnnxNode(0, "first", "Conv", "", inputs=("images", "w1"), outputs=("a",)),
        OnnxNode(1, "relu", "Relu", "", inputs=("a",), outputs=("b",)),
        OnnxNode(2, "second", "Conv", "", inputs=("b", "w2"), outputs=("out",)),
    ]


def test_nodes_inside_branches_are_read_too() -> None:
    nodes = read_nodes(branching_model())
    # What the bodies read from outside is an input of the node that has them.
    assert nodes[0] == OnnxNode(0, "", "If", "", inputs=("yes", "images", "images"), outputs=("out",))
    assert sorted(map(str, nodes[1:])) == ["other (my.domain.Odd)", "then (Relu)"]
    assert not any(node.top_level for node in nodes[1:])


def test_a_node_without_a_name_is_called_by_its_number() -> None:
    assert str(OnnxNode(7, "", "If", "")) == "node 7 (If)"


@pytest.mark.parametrize("content", [b"\xff" * 20, conv_model()[:-3], b"not a model"])
def test_what_is_no_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError, match="export it again"):
        read_nodes(content)
