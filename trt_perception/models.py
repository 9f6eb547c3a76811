"""What a user gives as `model`: a model file, a bare artifact, or the name of a model that comes with the package."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trt_perception.artifact_metadata import onnx_input, read_metadata
from trt_perception.checksum import model_sha256
from trt_perception.errors import ModelFileError
from trt_perception.model_file import MAX_SIDE_PX, Artifact, InputSpec, ModelFile, Resize
from trt_perception.model_file_reader import load_model_file
from trt_perception.resources import model_directory
from trt_perception.trust import ANYTHING, Trust

DEMO_MODEL = "digits"
KIND_OF_SUFFIX = {".onnx": "onnx", ".torchscript": "torchscript", ".pt": "torchscript", ".engine": "engine"}
# As Ultralytics feeds the networks of each task.
_RESIZE_OF_TASK: dict[str, Resize] = {"detect": "letterbox", "classify": "crop"}


def load_model(model: str | Path, trust: Trust = ANYTHING) -> ModelFile:
    """Reads a .yaml model file, a bare .onnx / .torchscript / .engine with metadata, or a shipped model by name.

    trust: what is asked of it; a shipped model lies where the package does. Raises ModelFileError that says what is
    missing.
    """
    path = Path(model)
    if not path.suffix and path.name == str(model):
        return _shipped(path.name, trust)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _labels_of_artifacts(load_model_file(path, trust))
    path = trust.checked(path, "model")
    if trust.require_checksum:
        raise ModelFileError(
            f"{path} comes without a sha256, which require_checksum asks for; write a model file that has it with "
            "`trt-perception inspect --write-model-file`, and give that"
        )
    if not path.is_file():
        raise ModelFileError(f"the model {path} does not exist; give a model file (.yaml), an artifact, or a name")
    return _from_artifact(path, read_metadata(path))


def _shipped(name: str, trust: Trust) -> ModelFile:
    directory = model_directory()
    path = directory / f"{name}.yaml"
    if path not in directory.glob("*.yaml"):
        names = ", ".join(sorted(p.stem for p in directory.glob("*.yaml")))
        raise ModelFileError(f"no model named {name!r} comes with the package (there is: {names}); or give a path")
    return load_model_file(path, replace(trust, roots=()))


def _labels_of_artifacts(model: ModelFile) -> ModelFile:
    """Names from the metadata of the model's artifacts, where its file gives none."""
    for kind, artifact in model.artifacts.items():
        if model.labels or not artifact.path.is_file():
            continue
        # Nothing is taken from a file that is not the right one; who opens it is told so.
        if artifact.sha256 is not None and model_sha256(artifact.path) != artifact.sha256:
            continue
        names = read_metadata(artifact.path, f".{kind}").get("names")
        if names is not None:
            model = replace(model, labels=_labels(artifact.path, names))
    return model


def _from_artifact(path: Path, metadata: Mapping[str, str]) -> ModelFile:
    """Ultralytics' keys: names, task, and imgsz (height, width) or, of YOLOv5, shape; else the graph's own shape.

    What does not name its classes is not taken to be made as Ultralytics' networks are, whose input is RGB from 0 to
    1 in a letterbox.
    """
    size = _image_size(path, metadata)
    missing = [key for key, there in (("names", "names" in metadata), ("imgsz", size is not None)) if not there]
    if missing or size is None:
        raise ModelFileError(
            f"{path} does not say enough of itself (no {', '.join(missing)} in its metadata); write a model file "
            "for it, for example with `trt-perception inspect --write-model-file`"
        )
    task = metadata.get("task", "detect")
    if task not in _RESIZE_OF_TASK:
        raise ModelFileError(f"{path} is made for the task {task!r}; only {', '.join(_RESIZE_OF_TASK)} are supported")
    height, width = size
    # Ultralytics feeds its RT-DETR without regard to the picture's proportions.
    is_rtdetr = "rtdetr" in metadata.get("description", "").lower().replace("-", "")
    resize = "stretch" if is_rtdetr else _RESIZE_OF_TASK[task]
    return ModelFile(
        name=path.stem,
        task=task,
        artifacts={KIND_OF_SUFFIX[path.suffix.lower()]: Artifact(path)},
        input=InputSpec(
            width,
            height,
            color_order="gray" if metadata.get("channels") == "1" else "rgb",
            resize=resize,
            short_side=max(width, height) if resize == "crop" else 0,
        ),
        labels=_labels(path, metadata["names"]),
    )


def _literal(path: Path, key: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ModelFileError(f"{path}: its metadata {key} is {text[:80]!r}, which is no literal value") from error


def _image_size(path: Path, metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Height and width."""
    shape: tuple[int | None, ...] | None = None
    for key, axes in (("imgsz", 2), ("shape", 4)):
        if key in metadata:
            value = _literal(path, key, metadata[key])
            sides = (value, value) if type(value) is int else value
            valid = isinstance(sides, list | tuple) and len(sides) == axes
            if not valid or not all(type(s) is int and 1 <= s <= MAX_SIDE_PX for s in sides[-2:]):
                raise ModelFileError(
                    f"{path}: its metadata {key} is {metadata[key][:80]!r}; expected [height, width] in pixels"
                )
            return sides[-2], sides[-1]
    if KIND_OF_SUFFIX[path.suffix.lower()] == "onnx":
        stated = onnx_input(path)
        shape = stated.shape if stated is not None else None
    height, width = shape[2:] if shape is not None and len(shape) == 4 else (None, None)
    if height is None or width is None or max(height, width) > MAX_SIDE_PX:
        return None
    return height, width


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
