"""The model's hash in /diagnostics, with and without one in the model file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from trt_perception.model_file import Artifact, InputSpec, ModelFile

pytest.importorskip("rclpy", reason="rclpy is not installed", exc_type=ImportError)


def test_it_is_the_files_own_where_the_model_file_gives_none(tmp_path: Path) -> None:
    from trt_perception.ros.detector_diagnostics import model_hash

    path = tmp_path / "net.onnx"
    model = ModelFile("m", "detect", {"onnx": Artifact(path)}, InputSpec(8, 8))
    assert model_hash(model.artifacts["onnx"]) == "unknown"
    for content in (b"first", b"second one"):
        path.write_bytes(content)
        assert model_hash(model.artifacts["onnx"]) == hashlib.sha256(content).hexdigest()
    given = ModelFile("m", "detect", {"onnx": Artifact(path, "ab" * 32)}, InputSpec(8, 8))
    assert model_hash(given.artifacts["onnx"]) == "ab" * 32
    assert model_hash(given.artifacts.get("torchscript")) == "unknown"
