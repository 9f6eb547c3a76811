"""`trt-perception inspect`: what it reads, what it says is missing, and the model file that it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from test.blob_network import write_classifier
from test.commands import trt_perception
from trt_perception.checksum import file_sha256
from trt_perception.cli.main import main
from trt_perception.errors import PerceptionError
from trt_perception.inspection import inspect_model
from trt_perception.model_file import Artifact, InputSpec, ModelFile
from trt_perception.model_writer import write_model_file
from trt_perception.models import load_model
from trt_perception.onnx_report import check_onnx, report_onnx
from trt_perception.types import Thresholds

DIGITS = load_model("digits")


def write_graph(path: Path, shape: list[Any], out: list[Any], *, nodes: list[Any] | None = None) -> None:
    """A graph of one If with a body, so that there are nodes below the top."""
    helper = onnx.helper
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value_float=1.0)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [])],
    )
    default = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", onnx.TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["d"], then_branch=branch, else_branch=branch),
        helper.make_node("Identity", ["images"], ["out"]),
    ]
    graph = helper.make_graph(
        default if nodes is None else nodes,
        "graph",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, out)],
        [helper.make_tensor("w", onnx.TensorProto.FLOAT, [2, 3], [0.0] * 6)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 2)]
    model = helper.make_model(graph, producer_name="tester", producer_version="7", opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())


def test_the_report_tells_what_the_graph_holds(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_graph(path, ["batch", 3, None, 64], ["batch", 3, None, 64])
    report = report_onnx(path)
    assert (report.producer, report.ir_version) == ("tester 7", 8)
    assert report.opset == {"": 17, "com.example": 2}
    assert report.operators == {"Constant": 3, "If": 1, "Identity": 1}
    assert report.parameters == 6
    (given,) = report.inputs
    assert (given.name, given.dtype, given.shape, given.dynamic_axes) == (
        "images",
        "float32",
        ("batch", 3, "?", 64),
        (0, 2),
    )


def test_the_checks_find_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_graph(path, [1, 3, 8, 8], [1, 3, 8, 8])
    assert check_onnx(path) == []
    write_graph(path, [1, 3, 8, 8], [1, 3, 8, 8], nodes=[onnx.helper.make_node("Nonsense", ["images"], ["out"])])
    (checker, *_) = check_onnx(path)
    assert checker.startswith("checker: ") and "Nonsense" in checker
    write_graph(path, [1, 3, 8, 8], [1, 5, 8, 8])
    (inference,) = check_onnx(path)
    assert inference.startswith("shape inference: ")
    done = trt_perception(["inspect", path, "--check"])
    assert done.returncode == 1
    assert "check: shape inference: " in done.stdout


def test_a_classifier_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_classifier(path, {})
    (report,) = inspect_model(path).artifacts
    assert report.head is not None and report.head.name == "classification"
    assert report.runs_on is None
    (missing,) = report.missing
    assert "no names in its metadata" in missing
    target = tmp_path / "sub" / "net.yaml"
    target.parent.mkdir()
    done = trt_perception(["inspect", path, "--write-model-file", target])
    assert done.returncode == 0, done.stderr
    text = target.read_text(encoding="utf-8")
    assert "# The model does not say how pictures are prepared for it" in text
    assert "# The model does not name its classes" in text
    model = load_model(target)
    assert (model.task, model.head, model.labels) == ("classify", "classification", ())
    assert (model.input.width, model.input.height) == (64, 64)
    artifact = model.artifact("onnx")
    assert artifact.path.resolve() == path.resolve()
    assert artifact.sha256 == file_sha256(path)
    assert inspect_model(target).artifacts[0].missing == ()


def test_yoloxs_own_preparation_is_written_for_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_graph(path, [1, 3, 64, 96], [1, 126, 85])
    done = trt_perception(["inspect", path, "--write-model-file", tmp_path / "net.yaml"])
    assert done.returncode == 0, done.stderr
    model = load_model(tmp_path / "net.yaml")
    assert model.head == "yolox"
    assert (model.input.color_order, model.input.resize, model.input.scale) == ("bgr", "letterbox_top_left", 1.0)


def test_a_size_that_is_not_stated_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_graph(path, [1, 3, "h", "w"], [1, 3, "h", "w"])
    done = trt_perception(["inspect", path, "--write-model-file", tmp_path / "net.yaml"])
    assert done.returncode == 1
    assert "does not say the width and height of its input" in done.stderr
    assert not (tmp_path / "net.yaml").exists()


def test_a_model_file_is_reported_with_every_artifact(tmp_path: Path) -> None:
    onnx_path, archive = DIGITS.artifact("onnx").path, DIGITS.artifact("torchscript").path
    path = tmp_path / "model.yaml"
    path.write_text(
        f"artifacts: {{onnx: {{path: {onnx_path}, sha256: {'ab' * 32}}}, torchscript: {archive}, engine: no.engine}}\n"
        "input: {width: 320, height: 320}\n",
        encoding="utf-8",
    )
    found = inspect_model(path)
    assert found.model is not None and found.model.labels == DIGITS.labels
    reports = {report.kind: report for report in found.artifacts}
    assert f"has sha256 {file_sha256(onnx_path)}, the model file says abab" in reports["onnx"].missing[0]
    assert reports["engine"].missing[0].startswith(f"the model's file {tmp_path / 'no.engine'} does not exist")
    archive_report = reports["torchscript"]
    assert archive_report.missing == ()
    assert archive_report.head is not None and archive_report.head.name == "yolov8"
    assert [str(o.shape) for o in archive_report.outputs] == ["(1, 14, 2100)"]
    done = trt_perception(["inspect", path, "--json"])
    document = json.loads(done.stdout)
    assert (done.returncode, document["ready"]) == (0, False)


def test_the_text_names_everything() -> None:
    done = trt_perception(["inspect", DIGITS.artifact("onnx").path, "--check"])
    assert done.returncode == 0, done.stderr
    for words in (
        "model digits: detect, 320x320 rgb, letterbox",
        "labels (10): 0, 1, 2",
        "sha256: " + file_sha256(DIGITS.artifact("onnx").path),
        "input images: float32 (batch, 3, 320, 320), dynamic axes 0",
        "opset: ai.onnx 17",
        "producer: pytorch",
        "operators: Conv 56",
        "metadata task: detect",
        "runs on: onnxruntime, cpu",
        "head: yolov8: 14 rows for 4 + 10 classes",
        "missing: nothing, it can be run",
        "check: no problem found",
    ):
        assert words in done.stdout


def test_an_engine_tells_its_metadata_and_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "net.engine"
    header = json.dumps({"names": {"0": "a"}, "imgsz": [64, 64], "task": "detect"}).encode()
    path.write_bytes(len(header).to_bytes(4, "little") + header + b"no engine at all")
    (report,) = inspect_model(path).artifacts
    assert report.metadata["imgsz"] == "[64, 64]"
    assert len(report.missing) == 1


def test_without_onnx_the_rest_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    path = DIGITS.artifact("onnx").path
    (report,) = inspect_model(path).artifacts
    assert report.onnx is None
    assert report.head is not None and report.head.name == "yolov8"
    assert [t.name for t in (*report.inputs, *report.outputs)] == ["images", "output0"]
    assert "needs the Python package onnx" in report.notes[0]
    assert report.missing == ()
    assert main(["inspect", str(path), "--check"]) == 1
    assert "install it with `pip install onnx`" in capsys.readouterr().err


def test_a_shipped_model_goes_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "digits"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("model digits: detect, 320x320 rgb")
    assert f"{DIGITS.artifact('torchscript').path} (torchscript)" in shown
    assert main(["inspect", "nosuch"]) == 1
    assert "no model named 'nosuch' comes with the package (there is: digits)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.onnx", "does not exist"),
        ("absent.yaml", "cannot be read"),
        ("photo.png", "expected a file ending in .yaml, .onnx, .torchscript, .pt, .engine"),
        ("garbage.onnx", "cannot be read as a .onnx file"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"garbage garbage")
    done = trt_perception(["inspect", tmp_path / name])
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    names = ("no", "7", "a: b", 'quo"te', "Füße 😀", "# comment", *(f"class {i}" for i in range(40)))
    chosen = Thresholds(0.1, 0.6, 7, class_agnostic=True, per_class=(("no", 0.5), ("7", 1.0)), classes=("7", "a: b"))
    for spec, thresholds in (
        (InputSpec(64, 32, "gray", "stretch", 0, 1.0, (0.5,), (2.0,)), Thresholds()),
        (InputSpec(64, 64, resize="crop", short_side=70), chosen),
    ):
        artifacts = {"onnx": Artifact(tmp_path / "n e t.onnx", "ab" * 32)}
        model = ModelFile("my: net", "detect", artifacts, spec, "yolox", names, thresholds)
        path = tmp_path / f"{spec.resize}.yaml"
        write_model_file(path, model, ["a note: with signs"])
        read = load_model(path)
        assert (read.name, read.labels, read.head, read.thresholds) == ("my: net", names, "yolox", thresholds)
        assert (read.input.width, read.input.height, read.input.resize) == (spec.width, spec.height, spec.resize)
        assert (read.input.mean, read.input.std, read.input.scale) == (
            spec.mean[: spec.channels],
            spec.std[: spec.channels],
            spec.scale,
        )
        assert read.input.short_side in (spec.short_side, spec.height)
        assert read.artifact("onnx").path.resolve() == tmp_path / "n e t.onnx"
    with pytest.raises(PerceptionError, match="cannot be written"):
        write_model_file(tmp_path / "no" / "folder.yaml", model)
