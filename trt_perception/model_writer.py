"""Writes a model file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from trt_perception.errors import ModelFileError
from trt_perception.model_file import RESIZE_MODES, ModelFile
from trt_perception.types import Thresholds

_LONGEST_LINE = 100


def write_model_file(target: Path, model: ModelFile, notes: Sequence[str] = ()) -> None:
    """Writes the YAML, artifacts relative to it; notes become comments above it. Raises ModelFileError.

    A file that is there already is kept: people edit these.
    """
    folder = target.resolve().parent
    given = model.input
    lines = [f"# {note}" for note in notes]
    lines += [f"name: {_text(model.name)}", f"task: {model.task}", "artifacts:  # relative to this file"]
    for kind, artifact in model.artifacts.items():
        path = Path(os.path.relpath(artifact.path.resolve(), folder)).as_posix()
        sha256 = f", sha256: {_text(artifact.sha256)}" if artifact.sha256 else ""
        hashes = ", ".join(f"{_text(location)}: {_text(value)}" for location, value in artifact.external_data.items())
        data = f", external_data: {{{hashes}}}" if hashes else ""
        lines.append(f"  {kind}: {{path: {_text(path)}{sha256}{data}}}")
    lines += [
        "input:",
        f"  width: {given.width}",
        f"  height: {given.height}",
        f"  color_order: {given.color_order}  # rgb, bgr or gray",
        f"  resize: {given.resize}  # {', '.join(RESIZE_MODES)}",
        f"  pad_value: {given.pad_value}",
        f"  scale: {given.scale!r}  # value = (pixel * scale - mean) / std",
        f"  mean: {list(given.mean[: given.channels])}",
        f"  std: {list(given.std[: given.channels])}",
    ]
    if given.resize == "crop":
        lines.append(f"  short_side: {given.short_side}")
    lines += [f"head: {model.head}", *_list("labels", model.labels)]
    lines += _thresholds(model.thresholds)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except FileExistsError:
        raise ModelFileError(f"{target} is there already; give another name, or delete it") from None
    except OSError as error:
        raise ModelFileError(f"{target} cannot be written ({error.strerror}); give another path") from error


def _thresholds(thresholds: Thresholds) -> list[str]:
    lines = [
        "thresholds:",
        f"  score: {thresholds.score}",
        f"  iou: {thresholds.iou}",
        f"  max_detections: {thresholds.max_detections}",
    ]
    if thresholds.per_class:
        lines += ["  per_class:", *(f"    {_text(name)}: {score}" for name, score in thresholds.per_class)]
    if thresholds.class_agnostic:
        lines.append("nms: {class_agnostic: true}")
    return lines + (_list("classes", thresholds.classes) if thresholds.classes else [])


def _list(key: str, names: Sequence[str]) -> list[str]:
    line = f"{key}: [{', '.join(map(_text, names))}]"
    return [line] if len(line) <= _LONGEST_LINE else [f"{key}:", *(f"  - {_text(name)}" for name in names)]


def _text(value: str) -> str:
    """As JSON, which YAML reads as it is."""
    return json.dumps(value, ensure_ascii=False)
