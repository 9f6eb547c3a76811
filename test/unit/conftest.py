"""What several unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_perception.model_file import Artifact, InputSpec, ModelFile


@pytest.fixture
def fake_backend(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a backend that another package registers through an entry point."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fake_backend"))
    return "fake"


@pytest.fixture
def fake_model(tmp_path: Path) -> ModelFile:
    """A model that the fake backend runs: every picture has one box of class 7 in its middle."""
    path = tmp_path / "fake.onnx"
    path.write_bytes(b"")
    labels = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    return ModelFile("fake", "detect", {"onnx": Artifact(path)}, InputSpec(320, 320), "yolov8", labels)
