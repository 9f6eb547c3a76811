"""What a user gives as `model`: a model file, a bare artifact, or the name of a model that comes with the package."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_perception.artifact_metadata import read_metadata
from trt_perception.errors import ModelFileError
from trt_perception.model_file import MAX_SIDE_PX, Artifact, InputSpec, ModelFile, load_model_file
from trt_perception.resources import model_directory

DEMO_MODEL = "digits"
_KIND_OF_SUFFIX = {".onnx": "onnx", ".torchscript": "torchscript", ".pt": "torchscript", ".engine": "engine"}


def load_model(model: str | Path) -> ModelFile:
    """Reads a .yaml model file, a bare .onnx / .torchscript / .engine with metadata, or a shipped model by name.

    Raises ModelFileError that says what is missing.
    """
    path = Path(model)
    if not path.suffix and path.name == str(model):
        return _shipped(path.name)
    if path.suffix.lower() in (".yaml", ".yml"):
        return load_model_file(path)
    if not path.is_file():
        raise ModelFileError(f"the model {path} does not exist; give a model file (.yaml), an artifact, or a name")
    return _from_artifact(path, read_metadata(path))


def _shipped(name: str) -> ModelFile:
    directory = model_directory()
    path = directory / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in directory.glob("*.yaml")))
        raise ModelFileError(f"no model named {name!r} comes with the package (there is: {names}); or give a path")
    return load_model_file(path)


def _from_artifact(path: Path, metadata: Mapping[str, str]) -> ModelFile:
    """Ultralytics' keys: names, imgsz (height, width), task."""
    missing = [key for key in ("names", "imgsz", "task") if key not in metadata]
    if missing:
        raise ModelFileError(
            f"{path} does not say enough of itself (no {', '.join(missing)} in its metadata); write a model file "
            "for it, see config/models/digits.yaml"
        )
    task = metadata["task"]
    if task != "detect":
        raise ModelFileError(f"{path} is made for the task {task!r}; only detect is supported")
    height, width = _image_size(path, metadata["imgsz"])
    kind = _KIND_OF_SUFFIX[path.suffix.lower()]
    return ModelFile(
        name=path.stem,
        task=task,
        artifacts={kind: Artifact(path)},
        input=InputSpec(width, height),
        head="yolov8",
        labels=_labels(path, metadata["names"]),
    )


def _literal(path: Path, key: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ModelFileError(f"{path}: its metadata {key} is {text[:80]!r}, which is no literal value") from error


def _image_size(path: Path, text: str) -> tuple[int, int]:
    value = _literal(path, "imgsz", text)
    sides = (value, value) if isinstance(value, int) else value
    valid = isinstance(sides, list | tuple) and len(sides) == 2
    if not valid or not all(type(s) is int and 1 <= s <= MAX_SIDE_PX for s in sides):
        raise ModelFileError(f"{path}: its metadata imgsz is {text[:80]!r}; expected [height, width] in pixels")
    return sides[0], sides[1]


def _labels(path: Path, text: str) -> tuple[str, ...]:
    value = _literal(path, "names", text)
    names = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    try:
        by_id = {int(key): str(name) for key, name in names.items()}
    except (AttributeError, ValueError, TypeError, OverflowError):
        by_id = {}
    if sorted(by_id) != list(range(len(by_id))) or not by_id:
        raise ModelFileError(f"{path}: its metadata names is {text[:80]!r}; expected names numbered from 0")
    return tuple(by_id[index] for index in range(len(by_id)))
