"""A detector with model_root and require_checksum: nothing outside is read or written, whoever sets its parameters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed", exc_type=ImportError)

from test.ros.graph import Graph
from trt_perception.resources import model_directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        for file in model_directory().iterdir():
            shutil.copy(file, tmp_path / name)
    return tmp_path / "inside"


def test_parameters_lead_nowhere_else_at_run_time(graph: Graph, root: Path) -> None:
    outside = root.parent / "outside"
    graph.start(
        "detector_node",
        *("-p", f"model:={root}/digits.yaml", "-p", f"model_root:={root}", "-p", "require_checksum:=true"),
    )
    graph.wait_for_state("detector", "active")
    for name, value, words in (
        ("model", str(outside / "digits.yaml"), "outside of"),
        ("model", str(root / ".." / "outside" / "digits.yaml"), "outside of"),
        ("model", str(root / "digits.onnx"), "comes without a sha256"),
        ("onnxruntime__profile_to", str(outside / "profile.json"), "outside of"),
        ("tensorrt__cache_directory", str(outside), "outside of"),
        ("model_root", [""], "read-only"),
        ("require_checksum", False, "read-only"),
    ):
        (result,) = graph.set_parameters("detector", **{name: value})
        assert not result.successful and words in result.reason, (name, result.reason)
    (result,) = graph.set_parameters("detector", onnxruntime__profile_to=str(root / "profile.json"))
    assert result.successful, result.reason
    assert graph.get_parameter("detector", "model") == f"{root}/digits.yaml"
    assert graph.state("detector") == "active"


def test_a_model_elsewhere_keeps_it_unconfigured(graph: Graph, root: Path) -> None:
    model = root.parent / "outside" / "digits.yaml"
    node = graph.start("detector_node", "-p", f"model:={model}", "-p", f"model_root:=[{root}]")
    graph.wait_for_state("detector", "unconfigured")
    graph.wait_until(lambda: f"{model} leads to" in node.log(), "the reason in the log")
    assert node.end() == 0


def test_a_root_that_does_not_exist_is_no_start(graph: Graph, tmp_path: Path) -> None:
    node = graph.start("detector_node", "-p", f"model_root:={tmp_path}/absent")
    assert node.process.wait(30.0) == 1
    assert f"cannot start: the model root {tmp_path}/absent is no folder" in node.log()
