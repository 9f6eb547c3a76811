"""A model file is read as it says, and every mistake in it is named with file, line and key."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trt_perception.errors import ModelFileError
from trt_perception.model_file import InputSpec
from trt_perception.model_file_reader import load_model_file
from trt_perception.types import Thresholds

MINIMAL = """\
artifacts: {onnx: net.onnx}
input: {width: 320, height: 240}
head: yolov8
"""

FULL = """\
name: signs
task: detect
artifacts:
  onnx: {path: sub/net.onnx, sha256: SHA, external_data: {}}
  torchscript: net.torchscript
  engine: /abs/net.engine
input:
  width: 224
  height: 192
  color_order: bgr
  resize: crop
  pad_value: 0
  scale: 1
  mean: [1, 2.5, 3]
  std: [0.5, 1, 2]
  short_side: 256
head: yolov8
labels: [stop, "no", 7]
thresholds: {score: 0, iou: 1, max_detections: 5, per_class: {stop: 0.5, 7: 1}}
nms: {class_agnostic: true}
classes: [stop, 7]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "model.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        load_model_file(path)
    return str(caught.value)


def test_what_is_not_said_has_the_documented_defaults(tmp_path: Path) -> None:
    model = load_model_file(write(tmp_path, MINIMAL))
    assert (model.name, model.task, model.head, model.labels) == ("model", "detect", "yolov8", ())
    assert model.input == InputSpec(320, 240, short_side=model.input.short_side)
    assert model.thresholds == Thresholds(0.25, 0.45, 300)
    assert model.artifact("onnx").path == tmp_path / "net.onnx"
    assert model.artifact("onnx").sha256 is None
    assert model.path == tmp_path / "model.yaml"


def test_everything_that_is_said_is_taken(tmp_path: Path) -> None:
    digest = "AB" * 32
    model = load_model_file(write(tmp_path, FULL.replace("SHA", digest)))
    assert model.name == "signs"
    assert model.artifact("onnx").path == tmp_path / "sub" / "net.onnx"
    assert model.artifact("onnx").sha256 == digest.lower()
    assert model.artifact("torchscript").path == tmp_path / "net.torchscript"
    assert model.artifact("engine").path == Path("/abs/net.engine")
    assert model.input == InputSpec(224, 192, "bgr", "crop", 0, 1.0, (1.0, 2.5, 3.0), (0.5, 1.0, 2.0), 256)
    assert model.labels == ("stop", "no", "7")
    assert model.thresholds == Thresholds(0.0, 1.0, 5, True, (("stop", 0.5), ("7", 1.0)), ("stop", "7"))


@pytest.mark.parametrize("text", ["stop\nno entry\n7", "\ufeffstop \r\nno entry\r\n7\r\n\r\n"])
def test_labels_may_stand_in_a_text_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "names.txt").write_text(text, encoding="utf-8", newline="")
    model = load_model_file(write(tmp_path, MINIMAL + "labels: sub/names.txt\n"))
    assert model.labels == ("stop", "no entry", "7")


def test_a_hole_in_the_text_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("stop\n\n7\n", encoding="utf-8")
    message = refused(write(tmp_path, MINIMAL + "labels: names.txt\n"))
    assert "line 4: labels is the path of a text file" in message
    assert "names.txt, line 2 is empty; expected one name a line" in message


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"stop\n\xff\xfe")
    assert "cannot be read as UTF-8 text" in refused(write(tmp_path, MINIMAL + "labels: names.txt\n"))
    (tmp_path / "names.txt").write_bytes(b"a\n" * (1 << 20))
    assert "larger than 1048576 bytes" in refused(write(tmp_path, MINIMAL + "labels: names.txt\n"))


def test_the_head_is_recognised_where_none_is_named(tmp_path: Path) -> None:
    text = MINIMAL.replace("head: yolov8\n", "")
    assert load_model_file(write(tmp_path, text)).head == "auto"


def test_labels_beyond_the_names_are_numbers(tmp_path: Path) -> None:
    model = load_model_file(write(tmp_path, MINIMAL + "labels: [a, b]\n"))
    assert [model.label(i) for i in (0, 1, 2, -1)] == ["a", "b", "2", "-1"]


# What is put in place of a line of the full file, the line and the key that the error must name, and its words.
MISTAKES = {
    "head": ("head: yolov8", "head: yolov9", 17, "head", "expected one of auto, yolov8"),
    "unknown key": ("head: yolov8", "haed: yolov8", 17, "haed", "is not known here"),
    "unknown key beside all others": ("task: detect", "task: detect\nanchors: 3", 3, "anchors", "is not known here"),
    "unknown key of the input": ("  pad_value: 0", "  padding: 0", 12, "input.padding", "pad_value"),
    "unknown artifact": ("  torchscript: net", "  tensorrt: net", 5, "artifacts.tensorrt", "engine, onnx, torchscript"),
    "unknown key of an artifact": ("sha256: SHA", "md5: 1", 4, "artifacts.onnx.md5", "path, sha256"),
    "unknown threshold": ("{score: 0,", "{scor: 0,", 19, "thresholds.scor", "iou, max_detections, per_class, score"),
    "twice": ("task: detect", "task: detect\nname: again", 3, "name", "stands twice"),
    "twice below": ("  height: 192", "  height: 192\n  width: 1", 10, "input.width", "stands twice"),
    "text for a number": ("  width: 224", "  width: wide", 8, "input.width", "'wide'; expected a whole number"),
    "truth for a number": ("  width: 224", "  width: true", 8, "input.width", "True; expected a whole number"),
    "truth for a fraction": ("{score: 0,", "{score: yes,", 19, "thresholds.score", "True; expected a number"),
    "fraction for a whole number": ("  width: 224", "  width: 224.0", 8, "input.width", "224.0; expected a whole"),
    "number for a text": ("name: signs", "name: 5", 1, "name", "5; expected a text"),
    "nothing for a text": ("name: signs", "name:", 1, "name", "None; expected a text"),
    "list for a mapping": (
        "thresholds: {score: 0, iou: 1, max_detections: 5, per_class: {stop: 0.5, 7: 1}}",
        "thresholds: [1]",
        19,
        "thresholds",
        "",
    ),
    "mapping for a list": ('labels: [stop, "no", 7]', "labels: {a: 1}", 18, "labels", "expected a list"),
    "truth for a label": ('"no"', "no", 18, "labels", "False as number 1"),
    "mapping for a label": ('"no"', "{a: 1}", 18, "labels", "as number 1"),
    "width of zero": ("  width: 224", "  width: 0", 8, "input.width", "1 to 16384"),
    "endless width": ("  width: 224", "  width: 99999", 8, "input.width", "1 to 16384"),
    "number of many digits": ("  width: 224", "  width: 0x" + "F" * 6000, 8, "input.width", "too large"),
    "date that is none": ("  width: 224", "  width: 2024-13-01", 8, "input.width", "month"),
    "colour": ("color_order: bgr", "color_order: rbg", 10, "input.color_order", "rgb, bgr, gray"),
    "resize": ("resize: crop", "resize: zoom", 11, "input.resize", "letterbox, letterbox_top_left, stretch, crop"),
    "pad value": ("pad_value: 0", "pad_value: 256", 12, "input.pad_value", "0 to 255"),
    "scale of zero": ("scale: 1", "scale: 0", 13, "input.scale", "above 0"),
    "endless scale": ("scale: 1", "scale: .inf", 13, "input.scale", "above 0"),
    "mean of one": ("mean: [1, 2.5, 3]", "mean: [1]", 14, "input.mean", "list of 3 finite numbers"),
    "mean that is no number": ("mean: [1, 2.5, 3]", "mean: [1, .nan, 3]", 14, "input.mean", "finite"),
    "truth in the mean": ("mean: [1, 2.5, 3]", "mean: [1, true, 3]", 14, "input.mean", "finite"),
    "std of zero": ("std: [0.5, 1, 2]", "std: [0.5, 0, 2]", 15, "input.std", "above 0"),
    "std that is no number": ("std: [0.5, 1, 2]", "std: [0.5, .nan, 2]", 15, "input.std", "finite"),
    "short side": ("short_side: 256", "short_side: 200", 16, "input.short_side", "224 to 16384"),
    "endless short side": ("short_side: 256", "short_side: 999999999", 16, "input.short_side", "224 to 16384"),
    "hash": ("sha256: SHA", "sha256: abc", 4, "artifacts.onnx.sha256", "64 hexadecimal digits"),
    "hash of other signs": ("SHA", "z" * 64, 4, "artifacts.onnx.sha256", "64 hexadecimal digits"),
    "artifact without path": ("path: sub/net.onnx, ", "", 4, "artifacts.onnx.path", "is missing"),
    "task": ("task: detect", "task: segment", 2, "task", "expected one of detect"),
    "score": ("{score: 0,", "{score: 1.5,", 19, "thresholds.score", "0 to 1"),
    "score that is no number": ("{score: 0,", "{score: .nan,", 19, "thresholds.score", "0 to 1"),
    "score of a class": ("{stop: 0.5", "{stop: 5", 19, "thresholds.per_class.stop", "0 to 1"),
    "scores of no class": ("{stop: 0.5, 7: 1}", "[0.5]", 19, "thresholds.per_class", "expected a mapping"),
    "unknown key of nms": ("class_agnostic: true", "agnostic: true", 20, "nms.agnostic", "class_agnostic"),
    "number for a truth": ("agnostic: true", "agnostic: 1", 20, "nms.class_agnostic", "true or false"),
    "text for classes": ("classes: [stop, 7]", "classes: stop", 21, "classes", "expected a list"),
    "truth for a class": ("classes: [stop, 7]", "classes: [yes]", 21, "classes", "True as number 0"),
    "labels that do not exist": (
        'labels: [stop, "no", 7]',
        "labels: names.txt",
        18,
        "labels",
        "cannot be read as UTF-8",
    ),
    "no detections": ("max_detections: 5", "max_detections: 0", 19, "thresholds.max_detections", "at least 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path: Path, mistake: str) -> None:
    right, wrong, line, key, words = MISTAKES[mistake]
    assert right in FULL
    path = write(tmp_path, FULL.replace(right, wrong, 1).replace("SHA", "ab" * 32))
    message = refused(path)
    assert message.startswith(f"{path}, line {line}: {key} "), message
    assert words in message
    assert len(message) < len(str(path)) + 300


@pytest.mark.parametrize("key", ["artifacts", "input"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(key))
    assert re.search(rf"line 1: {key} is missing", refused(write(tmp_path, text)))


def test_no_artifact_at_all(tmp_path: Path) -> None:
    message = refused(write(tmp_path, MINIMAL.replace("{onnx: net.onnx}", "{}")))
    assert "line 1: artifacts is empty; give a path for at least one of onnx, torchscript, engine" in message


def test_the_sort_of_yaml_that_a_model_file_needs_not(tmp_path: Path) -> None:
    alias = refused(write(tmp_path, "labels: &names [a]\n" + MINIMAL + "name: *names\n"))
    assert "line 5: *names is a YAML alias; write the value out" in alias
    tag = refused(write(tmp_path, MINIMAL + "name: !!python/object/apply:os.system [touch x]\n"))
    assert re.search(r"line 4: .*os\.system is a YAML tag; leave it out", tag)
    assert "does not hold a mapping" in refused(write(tmp_path, "- a\n- b\n"))
    assert "does not hold a mapping" in refused(write(tmp_path, ""))
    assert "single document" in refused(write(tmp_path, "---\na: 1\n---\nb: 1\n"))
    assert "line 2" in refused(write(tmp_path, "a: 1\nb: [1, 2\n"))
    assert "not valid YAML" in refused(write(tmp_path, "a: " + "[" * 1500))


def test_what_is_no_model_file_at_all(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.yaml")
    assert "cannot be read" in refused(tmp_path)
    assert "is no path" in refused(Path("a\0b.yaml"))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"name: \xff\xfe")
    assert "not UTF-8" in refused(binary)
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * ((1 << 20) + 1))
    assert "larger than 1048576 bytes" in refused(huge)


def test_an_artifact_is_what_its_hash_says(tmp_path: Path) -> None:
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()
    text = MINIMAL.replace("onnx: net.onnx", f"engine: {{path: net.engine, sha256: {digest}}}")
    artifact = load_model_file(write(tmp_path, text)).artifact("engine")
    with pytest.raises(ModelFileError, match=r"net\.engine does not exist; correct its path"):
        artifact.verify("engine")
    artifact.path.write_bytes(content)
    artifact.verify("engine")
    artifact.path.write_bytes(content[:-1] + b"!")
    with pytest.raises(ModelFileError, match=f"the model file says {digest}"):
        artifact.verify("engine")


def test_an_artifact_of_another_backend_is_named(tmp_path: Path) -> None:
    model = load_model_file(write(tmp_path, MINIMAL))
    with pytest.raises(ModelFileError, match=r"no torchscript artifact \(it has: onnx\); add artifacts\.torchscript"):
        model.artifact("torchscript")


def test_a_crop_built_in_code_is_checked_too() -> None:
    with pytest.raises(ModelFileError, match="short_side is 0; a 224x200 crop needs at least 224"):
        InputSpec(224, 200, resize="crop")


yaml_signs = st.text(alphabet="ab019 \n:-[]{},'\"&*!|>#%@?._xe~=<\t", max_size=60)


@given(garbage=yaml_signs)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_for_a_value_the_answer_is_a_model_or_a_model_file_error(tmp_path: Path, garbage: str) -> None:
    for text in (garbage, MINIMAL + "name: " + garbage, MINIMAL + "labels: [" + garbage, "input:\n  width: " + garbage):
        path = write(tmp_path, text)
        try:
            load_model_file(path)
        except ModelFileError as error:
            assert str(path) in str(error)
