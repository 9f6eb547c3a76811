"""The model's hash in /diagnostics, with and without one in the model file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from trt_perception.model_file import Artifact

pytest.importorskip("rclpy", reason="rclpy is not installed", exc_type=ImportError)


def test_it_is_the_files_own_where_the_model_file_gives_none(tmp_path: Path) -> None:
    from trt_perception.ros.detector_diagnostics import artifact_hash

    path = tmp_path / "net.onnx"
    assert artifact_hash(Artifact(path)) == "unknown"
    for content in (b"first", b"second one"):
        path.write_bytes(content)
        assert artifact_hash(Artifact(path)) == hashlib.sha256(content).hexdigest()
    assert artifact_hash(Artifact(path, "ab" * 32)) == "ab" * 32
    assert artifact_hash(None) == "unknown"
