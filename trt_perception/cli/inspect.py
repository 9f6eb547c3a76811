"""`trt-perception inspect`: what a model is, which head fits it, and what is missing to run it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trt_perception.errors import ModelFileError
from trt_perception.inspection import ArtifactReport, Inspection, inspect_model, stated_size
from trt_perception.model_file import Artifact, InputSpec, ModelFile
from trt_perception.model_writer import write_model_file
from trt_perception.onnx_report import OnnxTensor, check_onnx

_LONGEST_VALUE = 160
_GUESSED = (
    "The model does not say how pictures are prepared for it: check color_order, resize, pad_value, scale, mean, std."
)
# What differs from the defaults for networks of that head as their own exporters leave them.
_INPUT_OF_HEAD: dict[str, dict[str, Any]] = {
    "yolox": {"color_order": "bgr", "scale": 1.0, "resize": "letterbox_top_left"},
    "rtdetr": {"resize": "stretch"},
}


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("inspect", help="what a model is and what is missing to run it", description=__doc__)
    parser.add_argument("file", type=Path, help="model file (.yaml), .onnx, .torchscript, .engine, or a shipped model")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--write-model-file", type=Path, metavar="PATH", help="write what was found as a model file")
    parser.add_argument("--check", action="store_true", help="run onnx.checker and shape inference on ONNX files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report; 1 when --check finds a problem."""
    found = inspect_model(args.file)
    problems = {r.path: check_onnx(r.path) for r in found.artifacts if r.kind == "onnx"} if args.check else {}
    if args.write_model_file is not None:
        model, notes = _draft(found)
        write_model_file(args.write_model_file, model, notes)
    if args.json:
        print(json.dumps(_document(found, problems), indent=1, default=str))
    else:
        print("\n".join(_lines(found, problems)))
        if args.write_model_file is not None:
            print(f"wrote {args.write_model_file}")
    return 1 if any(problems.values()) else 0


def _draft(found: Inspection) -> tuple[ModelFile, list[str]]:
    """The model as a model file would say it, and what a person has to look at."""
    report = found.artifacts[0]
    notes = ["Written by `trt-perception inspect`."]
    model = found.model
    if model is None:
        width, height = stated_size(report)
        if not width or not height:
            raise ModelFileError(
                f"{report.path} does not say the width and height of its input, so no model file can be written; "
                "write one by hand, see config/models/digits.yaml"
            )
        notes.append(_GUESSED)
        recognised = report.head.name if report.head is not None else ""
        task = "classify" if recognised == "classification" else "detect"
        model = ModelFile(report.path.stem, task, {}, InputSpec(width, height, **_INPUT_OF_HEAD.get(recognised, {})))
    artifacts = {r.kind: Artifact(r.path, r.sha256, r.external_data) for r in found.artifacts}
    if report.head is None:
        notes += [f"The head is not known: {problem}" for problem in report.missing[-1:]]
    if not model.labels:
        notes.append("The model does not name its classes: `labels` takes a list or the path of a text file.")
    head = report.head.name if report.head is not None else model.head
    return replace(model, artifacts=artifacts, head=head), [" ".join(note.split()) for note in notes]


def _document(found: Inspection, problems: dict[Path, list[str]]) -> dict[str, Any]:
    model = found.model
    return {
        "path": str(found.path),
        "model": None
        if model is None
        else {
            "name": model.name,
            "task": model.task,
            "head": model.head,
            "labels": model.labels,
            "input": asdict(model.input),
            "thresholds": asdict(model.thresholds),
        },
        "artifacts": [
            {**asdict(report), **({"problems": problems[report.path]} if report.path in problems else {})}
            for report in found.artifacts
        ],
        "ready": not any(report.missing for report in found.artifacts),
    }


def _lines(found: Inspection, problems: dict[Path, list[str]]) -> Iterator[str]:
    model = found.model
    if model is not None:
        given = model.input
        yield f"model {model.name}: {model.task}, {given.width}x{given.height} {given.color_order}, {given.resize}"
        labels = ", ".join(model.labels)
        yield f"labels ({len(model.labels)}): {_shortened(labels)}" if labels else "labels: none, classes go by number"
    for report in found.artifacts:
        yield ""
        yield from _artifact_lines(report)
        if report.path in problems:
            yield from (f"  check: {problem}" for problem in problems[report.path] or ["no problem found"])


def _artifact_lines(report: ArtifactReport) -> Iterator[str]:
    yield f"{report.path} ({report.kind})"
    yield f"  size: {report.size_bytes} bytes"
    yield f"  sha256: {report.sha256}"
    yield from (f"  weights in {location}: sha256 {sha256}" for location, sha256 in report.external_data.items())
    for what, tensors in (("input", report.inputs), ("output", report.outputs)):
        yield from (f"  {what} {_tensor_text(tensor)}" for tensor in tensors)
    graph = report.onnx
    if graph is not None:
        opset = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in graph.opset.items())
        yield f"  opset: {opset}; IR version {graph.ir_version}; producer: {graph.producer}"
        operators = ", ".join(f"{name} {count}" for name, count in graph.operators.items())
        yield f"  operators: {operators}; {graph.parameters} weights"
    for key, value in report.metadata.items():
        yield f"  metadata {key}: {_shortened(value)}"
    if report.runs_on is not None:
        yield f"  runs on: {report.runs_on}"
    yield from (f"  note: {note}" for note in report.notes)
    if report.head is not None:
        yield f"  head: {report.head.name}: {report.head.reason}"
    yield from (f"  missing: {reason}" for reason in report.missing)
    if not report.missing:
        yield "  missing: nothing, it can be run"


def _tensor_text(tensor: OnnxTensor) -> str:
    shape = ", ".join(map(str, tensor.shape))
    free = ", ".join(map(str, tensor.dynamic_axes))
    return f"{tensor.name}: {tensor.dtype} ({shape})" + (f", dynamic axes {free}" if free else "")


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
