"""Reads a model file: YAML in, a ModelFile or an error with the line and the key out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

from trt_perception.errors import ModelFileError
from trt_perception.located_yaml import Section, read_yaml
from trt_perception.model_file import (
    ARTIFACT_KINDS,
    HEAD_NAMES,
    MAX_SIDE_PX,
    NETWORK_COLORS,
    ONNX,
    RESIZE_MODES,
    TASKS,
    Artifact,
    InputSpec,
    ModelFile,
    NetworkColor,
    Resize,
)
from trt_perception.trust import ANYTHING, Trust
from trt_perception.types import Thresholds

MAX_LABELS_BYTES = 1 << 20


def load_model_file(path: Path, trust: Trust = ANYTHING) -> ModelFile:
    """Reads and validates a model file; raises ModelFileError with the line and the key.

    trust: what is asked of the paths and hashes in it.

    Keys: name, task (default detect), artifacts (onnx / torchscript / engine, each a path relative to the file or
    {path, sha256}; an ONNX with weights in other files has {path, sha256, external_data: {file: sha256}}), input
    (width, height, color_order, resize, pad_value, scale, mean, std, short_side), head (default auto: recognised from
    the outputs), labels (list of names, or the path of a text file with one name a line, relative to the model file),
    thresholds (score, iou, max_detections, per_class: {name: score}), nms (class_agnostic), classes (names of those
    that are kept).
    """
    path = trust.checked(path, "model")
    root = read_yaml(path)
    name = root.take("name", str, path.stem)
    task = _choice(root, "task", "detect", TASKS)
    artifacts = _artifacts(root, trust)
    input_section = root.take_section("input")
    if input_section is None:
        raise root.invalid("input", "is missing; give at least input.width and input.height")
    input_spec = _input(input_section)
    head = _choice(root, "head", "auto", ("auto", *HEAD_NAMES))
    labels = _labels(root, trust)
    thresholds = _thresholds(root.take_section("thresholds"))
    nms = root.take_section("nms")
    if nms is not None:
        thresholds = replace(thresholds, class_agnostic=nms.take("class_agnostic", bool, False))
        nms.finish()
    thresholds = replace(thresholds, classes=_names(root, "classes"))
    root.finish()
    return ModelFile(name, task, artifacts, input_spec, head, labels, thresholds, path)


def _artifacts(root: Section, trust: Trust) -> dict[str, Artifact]:
    section = root.take_section("artifacts")
    if section is None:
        raise root.invalid("artifacts", f"is missing; give a path for at least one of {', '.join(ARTIFACT_KINDS)}")
    artifacts: dict[str, Artifact] = {}
    for kind in ARTIFACT_KINDS:
        if kind not in section:
            continue
        entry = section.take_section(kind) if section.is_mapping(kind) else None
        if entry is None:
            artifacts[kind] = Artifact(_trusted(section, kind, section.take(kind, str), trust))
        else:
            artifacts[kind] = _described_artifact(entry, kind, trust)
        if trust.require_checksum and artifacts[kind].sha256 is None:
            raise section.invalid(kind, "has no sha256, which require_checksum asks for: {path: FILE, sha256: HASH}")
    section.finish(known=ARTIFACT_KINDS)
    if not artifacts:
        raise root.invalid("artifacts", f"is empty; give a path for at least one of {', '.join(ARTIFACT_KINDS)}")
    return artifacts


def _described_artifact(entry: Section, kind: str, trust: Trust) -> Artifact:
    sha256 = _hash(entry, "sha256", "") or None
    path = _trusted(entry, "path", entry.take("path", str), trust)
    data = entry.take_section("external_data") if kind == ONNX else None
    hashes = {location: _hash(data, location, "none") for location in data} if data else {}
    if hashes and sha256 is None:
        raise entry.invalid("external_data", "needs the sha256 of the ONNX file beside it")
    entry.finish()
    return Artifact(path, sha256, hashes)


def _hash(section: Section, key: str, default: str) -> str:
    sha256 = section.take(key, str, default).lower()
    if sha256 and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise section.invalid(key, f"is {sha256!r}; expected 64 hexadecimal digits")
    return sha256


def _trusted(section: Section, key: str, text: str, trust: Trust) -> Path:
    """The path under `key`, relative to the model file; raises ModelFileError where it may not be."""
    try:
        return trust.checked(section.path.parent / text, "it is a path")
    except ModelFileError as error:
        raise section.invalid(key, f"is refused: {error}") from error


def _input(section: Section) -> InputSpec:
    width, height = (_side(section, key) for key in ("width", "height"))
    color_order = cast(NetworkColor, _choice(section, "color_order", "rgb", NETWORK_COLORS))
    resize = cast(Resize, _choice(section, "resize", "letterbox", RESIZE_MODES))
    pad_value = section.take("pad_value", int, 114)
    if not 0 <= pad_value <= 255:
        raise section.invalid("pad_value", f"is {pad_value}; expected 0 to 255")
    channels = 1 if color_order == "gray" else 3
    mean = _per_channel(section, "mean", 0.0, channels)
    std = _per_channel(section, "std", 1.0, channels)
    if any(value <= 0 for value in std):
        raise section.invalid("std", f"is {list(std)}; expected numbers above 0")
    least, default_side = (max(width, height), min(width, height)) if resize == "crop" else (0, 0)
    short_side = section.take("short_side", int, default_side)
    if not least <= short_side <= MAX_SIDE_PX:
        raise section.invalid(
            "short_side", f"is {short_side}; a {resize} to {width}x{height} takes {least} to {MAX_SIDE_PX}"
        )
    scale = section.take("scale", float, 1 / 255)
    if not 0 < scale < math.inf:
        raise section.invalid("scale", f"is {scale}; expected a number above 0")
    section.finish()
    return InputSpec(width, height, color_order, resize, pad_value, scale, mean, std, short_side)


def _labels(root: Section, trust: Trust) -> tuple[str, ...]:
    if not root.is_text("labels"):
        return _names(root, "labels")
    path = _trusted(root, "labels", root.take("labels", str), trust)
    try:
        return read_labels(path)
    except ModelFileError as error:
        raise root.invalid("labels", f"is the path of a text file, and {error}") from error


def read_labels(path: Path) -> tuple[str, ...]:
    """One name a line, UTF-8; empty lines at the end do not count. Raises ModelFileError."""
    try:
        if path.stat().st_size > MAX_LABELS_BYTES:
            raise ModelFileError(f"{path} is larger than {MAX_LABELS_BYTES} bytes; expected one name a line")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read as UTF-8 text ({error}); give one name a line") from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not all(names):
        raise ModelFileError(
            f"{path}, line {names.index('') + 1} is empty; expected one name a line, or nothing at all"
        )
    return names


def _names(root: Section, key: str) -> tuple[str, ...]:
    names = root.take(key, list, [])
    for position, name in enumerate(names):
        # YAML reads a bare no, yes, on and off as truth values.
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise root.invalid(key, f"has {name!r} as number {position}; expected a name, in quotes if need be")
    return tuple(str(name) for name in names)


def _side(section: Section, key: str) -> int:
    value = section.take(key, int)
    if not 1 <= value <= MAX_SIDE_PX:
        raise section.invalid(key, f"is {value}; expected 1 to {MAX_SIDE_PX} pixels")
    return value


def _choice(section: Section, key: str, default: str, choices: tuple[str, ...]) -> str:
    value = section.take(key, str, default)
    if value not in choices:
        raise section.invalid(key, f"is {value!r}; expected one of {', '.join(choices)}")
    return value


def _per_channel(section: Section, key: str, default: float, channels: int) -> tuple[float, ...]:
    values = section.take(key, list, [default] * channels)
    if len(values) != channels or not all(_is_finite_number(v) for v in values):
        raise section.invalid(key, f"is {values!r}; expected a list of {channels} finite numbers, one a channel")
    return tuple(float(v) for v in values)


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _thresholds(section: Section | None) -> Thresholds:
    default = Thresholds()
    if section is None:
        return default
    score = _fraction(section, "score", default.score)
    iou = _fraction(section, "iou", default.iou)
    maximum = section.take("max_detections", int, default.max_detections)
    if maximum < 1:
        raise section.invalid("max_detections", f"is {maximum}; expected at least 1")
    per_class = section.take_section("per_class")
    own = tuple((name, _fraction(per_class, name, score)) for name in per_class) if per_class else ()
    section.finish()
    return Thresholds(score, iou, maximum, per_class=own)


def _fraction(section: Section, key: str, default: float) -> float:
    value = section.take(key, float, default)
    if not 0.0 <= value <= 1.0:
        raise section.invalid(key, f"is {value}; expected a number from 0 to 1")
    return value
