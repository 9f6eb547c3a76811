"""What a model file or a bare artifact is, which head fits it, and what is missing to run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trt_perception.artifact_metadata import read_metadata
from trt_perception.backends import backend_class, backend_table
from trt_perception.checksum import file_sha256
from trt_perception.detector import Detector
from trt_perception.errors import ModelFileError, PerceptionError
from trt_perception.external_data import external_files
from trt_perception.heads import HeadContext
from trt_perception.heads.recognise import AUTO, Recognised, recognise
from trt_perception.model_file import ONNX, Artifact, ModelFile
from trt_perception.models import KIND_OF_SUFFIX, load_model
from trt_perception.onnx_report import OnnxReport, OnnxTensor, report_onnx
from trt_perception.types import TensorSpec


@dataclass(frozen=True)
class ArtifactReport:
    """One file of a model.

    kind: onnx, torchscript or engine. external_data: sha256 of each file beside it that holds its weights. inputs,
    outputs: as the file states them, or as the library that runs it does; empty where neither can be asked. runs_on:
    the backend and device that opened it. notes: what that backend says of how it runs, and what could not be looked
    at. onnx: None for other kinds and without the onnx package. missing: what stands between this file and detections,
    each with what to do.
    """

    path: Path
    kind: str
    size_bytes: int
    sha256: str
    metadata: Mapping[str, str]
    external_data: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[OnnxTensor, ...] = ()
    outputs: tuple[OnnxTensor, ...] = ()
    onnx: OnnxReport | None = None
    runs_on: str | None = None
    head: Recognised | None = None
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """model: None when the file does not say enough to be run, and `missing` of its artifact says what it lacks."""

    path: Path
    model: ModelFile | None
    artifacts: tuple[ArtifactReport, ...]


def inspect_model(path: Path) -> Inspection:
    """Looks at a model file and its artifacts, at one artifact, or at a shipped model by its name.

    Raises PerceptionError for what is none of these.
    """
    is_name = not path.suffix and len(path.parts) == 1
    if is_name or path.suffix.lower() in (".yaml", ".yml"):
        model = load_model(path)
        reports = tuple(_report_or_absence(artifact, kind, model) for kind, artifact in model.artifacts.items())
        return Inspection(model.path or path, model, reports)
    kind = KIND_OF_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise ModelFileError(f"{path} is no model; expected a file ending in .yaml, {', '.join(KIND_OF_SUFFIX)}")
    if not path.is_file():
        raise ModelFileError(f"the model {path} does not exist; give a model file (.yaml) or an artifact")
    try:
        bare: ModelFile | None = load_model(path)
        problem = None
    except ModelFileError as error:
        bare, problem = None, str(error)
    return Inspection(path, bare, (_report(Artifact(path), kind, bare, problem),))


def _report_or_absence(artifact: Artifact, kind: str, model: ModelFile) -> ArtifactReport:
    """A model file may name artifacts that are absent or changed: that is what the report is for."""
    try:
        return _report(artifact, kind, model, None)
    except ModelFileError as error:
        path = artifact.path
        size, sha256 = (path.stat().st_size, file_sha256(path)) if path.is_file() else (0, "")
        return ArtifactReport(path, kind, size, sha256, {}, missing=(str(error),))


def _report(artifact: Artifact, kind: str, model: ModelFile | None, problem: str | None) -> ArtifactReport:
    path = artifact.path
    artifact.verify(kind)
    missing = [problem] if problem else []
    unread: list[str] = []
    report = ArtifactReport(path, kind, path.stat().st_size, file_sha256(path), read_metadata(path, f".{kind}"))
    if kind == ONNX:
        hashes = {location: file_sha256(file) for location, file in external_files(path).items()}
        report = replace(report, external_data=hashes)
        try:
            graph = report_onnx(path)
            report = replace(report, onnx=graph, inputs=graph.inputs, outputs=graph.outputs)
        except ModelFileError:
            raise
        except PerceptionError as error:
            unread.append(str(error))
    if model is None:
        report, reasons = _recognised_by_shape(report, ())
        return replace(report, missing=(*missing, *unread, *reasons))
    report, reasons = _opened(report, replace(model, artifacts={kind: artifact}))
    if report.runs_on is None and model.head == AUTO:
        report, further = _recognised_by_shape(report, model.labels)
        # What was found in the outputs may be the reason why it did not open.
        reasons += [reason for reason in further if reason not in reasons]
    if report.runs_on is not None:
        # A graph that nobody can read here runs all the same.
        return replace(report, notes=(*unread, *report.notes), missing=(*missing, *reasons))
    return replace(report, missing=(*missing, *unread, *reasons))


def _opened(report: ArtifactReport, model: ModelFile) -> tuple[ArtifactReport, list[str]]:
    """Opens the model on the backend that loads such files, which shows more than the file does."""
    names = [name for name in backend_table() if backend_class(name).artifact_kind == report.kind]
    if not names:
        return report, [f"no backend of this installation runs {report.kind} files"]
    try:
        with Detector.open(model, names[0]) as detector:
            info = detector.info
            report = replace(report, runs_on=f"{names[0]}, {info.device} ({info.device_name})", notes=info.notes)
            if not report.inputs:
                inputs, outputs = (tuple(map(_tensor, specs)) for specs in (info.inputs, detector.output_specs()))
                report = replace(report, inputs=inputs, outputs=outputs)
            detector.warm_up(1)
            return replace(report, head=detector.recognised), []
    except PerceptionError as error:
        return report, [str(error)]


def _recognised_by_shape(report: ArtifactReport, labels: Sequence[str]) -> tuple[ArtifactReport, list[str]]:
    """The head that fits the sizes which the file states, where it cannot be run."""
    if report.onnx is None:
        return report, []
    specs = tuple(
        TensorSpec(t.name, t.dtype, tuple(s if isinstance(s, int) else None for s in t.shape)) for t in report.outputs
    )
    width, height = stated_size(report)
    try:
        return replace(report, head=recognise(specs, HeadContext(width, height, len(labels)), report.metadata)), []
    except ModelFileError as error:
        return report, [str(error)]


def stated_size(report: ArtifactReport) -> tuple[int, int]:
    """Width and height that the file states for its input, 0 where it does not."""
    shape = report.inputs[0].shape if report.inputs else ()
    sides = shape[:1:-1] if len(shape) == 4 else (0, 0)
    width, height = (side if isinstance(side, int) else 0 for side in sides)
    return width, height


def _tensor(spec: TensorSpec) -> OnnxTensor:
    return OnnxTensor(spec.name, spec.dtype, tuple("?" if s is None else s for s in spec.shape))
