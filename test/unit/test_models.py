"""What a user may give as a model: a name, a model file, or an artifact that says enough of itself."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trt_perception.artifact_metadata import engine_header_size, onnx_input, read_metadata
from trt_perception.errors import ModelFileError
from trt_perception.model_file import InputSpec
from trt_perception.models import load_model

# As Ultralytics' exporter writes it: text in ONNX, JSON in the others.
ULTRALYTICS = {"names": {0: "person", 1: "Füße 😀"}, "imgsz": [192, 320], "task": "detect", "stride": 32, "batch": 1}


def write_onnx(path: Path, metadata: dict[str, object]) -> None:
    model = onnx.ModelProto(ir_version=8, producer_name="test")
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


def write_torchscript(path: Path, metadata: dict[str, object]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"never read")
        archive.writestr("net/extra/config.txt", json.dumps(metadata))


def write_engine(path: Path, metadata: dict[str, object]) -> None:
    header = json.dumps(metadata).encode()
    path.write_bytes(len(header).to_bytes(4, "little") + header + b"ftrt" + bytes(100))


WRITERS: dict[str, tuple[Callable[[Path, dict[str, object]], None], str]] = {
    "net.onnx": (write_onnx, "onnx"),
    "NET.ONNX": (write_onnx, "onnx"),
    "net.torchscript": (write_torchscript, "torchscript"),
    "net.pt": (write_torchscript, "torchscript"),
    "net.engine": (write_engine, "engine"),
}


def refused(model: str | Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        load_model(model)
    return str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_an_artifact_with_metadata_needs_no_model_file(tmp_path: Path, name: str) -> None:
    write, kind = WRITERS[name]
    path = tmp_path / name
    write(path, ULTRALYTICS)
    model = load_model(str(path))
    assert model.labels == ("person", "Füße 😀")
    assert model.input == InputSpec(width=320, height=192)
    assert (model.head, model.task, model.name) == ("auto", "detect", path.stem)
    assert model.artifact(kind).path == path
    assert list(model.artifacts) == [kind]


@pytest.mark.parametrize("name", WRITERS)
def test_an_artifact_without_metadata_asks_for_a_model_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name][0](path, {"names": {0: "a"}})
    message = refused(path)
    assert str(path) in message
    assert "no imgsz in its metadata" in message
    assert "trt-perception inspect --write-model-file" in message
    WRITERS[name][0](path, {"imgsz": [64, 64], "task": "detect"})
    assert "no names in its metadata" in refused(path)


METADATA_MISTAKES: dict[str, tuple[str, object, str]] = {
    "task": ("task", "segment", "made for the task 'segment'; only detect, classify"),
    "names with a hole": ("names", {0: "a", 2: "b"}, "numbered from 0"),
    "no names": ("names", {}, "numbered from 0"),
    "names of nothing": ("names", "os.system('x')", "no literal value"),
    "names that cannot be looked up": ("names", "{[0]: 'a'}", "no literal value"),
    "endless number": ("names", "{1e999: 'a'}", "numbered from 0"),
    "size of nothing": ("imgsz", "wide", "no literal value"),
    "size of truth": ("imgsz", True, "expected [height, width]"),
    "size of zero": ("imgsz", [0, 320], "expected [height, width]"),
    "three sizes": ("imgsz", [3, 320, 320], "expected [height, width]"),
    "deep": ("imgsz", "[" * 5000, "no literal value"),
}


@pytest.mark.parametrize("mistake", METADATA_MISTAKES)
def test_a_mistake_in_the_metadata_is_named(tmp_path: Path, mistake: str) -> None:
    key, value, words = METADATA_MISTAKES[mistake]
    path = tmp_path / "net.onnx"
    write_onnx(path, {**ULTRALYTICS, key: value})
    message = refused(path)
    assert str(path) in message
    assert words in message


def write_graph(path: Path, shape: Any, metadata: dict[str, object], *, elements: int = 10) -> None:
    """An ONNX file whose graph has weights in front of its input, as exporters write them."""
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [elements], [0.5] * elements)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["images"], ["output0"], name="n")],
            "graph",
            [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
            [onnx.helper.make_tensor_value_info("output0", onnx.TensorProto.FLOAT, shape)],
            [weights],
        )
    )
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("shape", "stated"),
    [
        ([1, 3, 192, 320], (1, 3, 192, 320)),
        (["batch", 3, 192, 320], (None, 3, 192, 320)),
        (["b", "c", "h", "w"], (None, None, None, None)),
        ([-1, 3, -1, -1], (None, 3, None, None)),
        ([3, 192, 320], (3, 192, 320)),
        ([], ()),
        (None, None),
    ],
)
def test_the_graph_tells_its_inputs_shape(tmp_path: Path, shape: Any, stated: Any) -> None:
    path = tmp_path / "net.onnx"
    write_graph(path, shape, {"a": "b"}, elements=100_000)
    assert onnx_input(path) == (None if stated is None else ("images", stated))
    assert read_metadata(path) == {"a": "b"}


def test_weights_that_stand_among_the_inputs_are_none(tmp_path: Path) -> None:
    """As files of IR version 3 have them."""
    path = tmp_path / "net.onnx"
    write_graph(path, ["batch", 3, 192, 320], {})
    model = onnx.load(str(path))
    model.ir_version = 3
    model.graph.input.insert(0, onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [10]))
    path.write_bytes(model.SerializeToString())
    assert onnx_input(path) == ("images", (None, 3, 192, 320))
    del model.graph.input[1]
    path.write_bytes(model.SerializeToString())
    assert onnx_input(path) is None


def test_the_demo_models_graph_too() -> None:
    assert onnx_input(load_model("digits").artifact("onnx").path) == ("images", (None, 3, 320, 320))


def test_names_and_the_graphs_shape_are_enough(tmp_path: Path) -> None:
    # YOLOv5's exporter writes names and stride alone.
    path = tmp_path / "net.onnx"
    write_graph(path, ["batch", 3, 192, 320], {"names": {0: "a"}, "stride": 32})
    model = load_model(path)
    assert (model.input, model.task, model.labels) == (InputSpec(320, 192), "detect", ("a",))
    for shape in (["batch", 3, "h", "w"], [3, 192, 320], [1, 3, 1 << 40, 320]):
        write_graph(path, shape, {"names": {0: "a"}})
        assert "no imgsz in its metadata" in refused(path)


def test_yolov5_archives_tell_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript"
    write_torchscript(path, {"shape": [1, 3, 192, 320], "stride": 32, "names": {0: "a"}})
    assert load_model(path).input == InputSpec(320, 192)
    write_torchscript(path, {"shape": [3, 192, 320], "names": {0: "a"}})
    assert "its metadata shape is '[3, 192, 320]'" in refused(path)


def test_a_classifier_is_fed_as_classifiers_are(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_onnx(path, {**ULTRALYTICS, "task": "classify", "imgsz": [224, 224]})
    model = load_model(path)
    assert (model.task, model.input) == ("classify", InputSpec(224, 224, resize="crop", short_side=224))


@pytest.mark.parametrize("name", ["rtdetr-l", "RT-DETR-L"])
def test_ultralytics_rtdetr_is_fed_stretched(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.onnx"
    write_onnx(path, {**ULTRALYTICS, "description": f"Ultralytics {name} model trained on coco.yaml"})
    assert load_model(path).input == InputSpec(320, 192, resize="stretch")


def test_a_grey_network_is_fed_grey(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_onnx(path, {**ULTRALYTICS, "channels": 1})
    assert load_model(path).input == InputSpec(320, 192, color_order="gray")


def test_a_model_file_without_labels_takes_those_of_the_metadata(tmp_path: Path) -> None:
    write_torchscript(tmp_path / "net.pt", {"names": ["a", "b"]})
    write_onnx(tmp_path / "net.onnx", {})
    artifacts = "artifacts: {onnx: net.onnx, torchscript: net.pt, engine: absent.engine}\n"
    path = tmp_path / "net.yaml"
    path.write_text(artifacts + "input: {width: 8, height: 8}\n", encoding="utf-8")
    assert load_model(path).labels == ("a", "b")
    path.write_text(artifacts + "input: {width: 8, height: 8}\nlabels: [c]\n", encoding="utf-8")
    assert load_model(path).labels == ("c",)


def test_one_size_is_both_sides_and_names_may_be_a_list(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_onnx(path, {**ULTRALYTICS, "imgsz": 320, "names": ["a", "b"]})
    model = load_model(path)
    assert (model.input.width, model.input.height, model.labels) == (320, 320, ("a", "b"))


def test_a_shipped_model_goes_by_its_name() -> None:
    model = load_model("digits")
    assert model.labels == tuple("0123456789")
    assert {"onnx", "torchscript"} <= set(model.artifacts)
    for kind, artifact in model.artifacts.items():
        artifact.verify(kind)


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "no model named 'nosuch' comes with the package (there is: " in refused("nosuch")
    assert "digits" in refused("nosuch")
    assert "absent.onnx does not exist" in refused(tmp_path / "absent.onnx")
    assert "absent.yaml cannot be read" in refused(tmp_path / "absent.yaml")
    picture = tmp_path / "photo.png"
    picture.write_bytes(b"x")
    assert "expected a file ending in .yaml, .onnx, .torchscript, .pt, .engine" in refused(picture)


def test_a_model_file_may_end_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "NET.YAML"
    path.write_text("artifacts: {onnx: a.onnx}\ninput: {width: 8, height: 8}\nhead: yolov8\n", encoding="utf-8")
    assert load_model(path).name == "NET"


def test_an_engine_without_a_header_has_none(tmp_path: Path) -> None:
    path = tmp_path / "plain.engine"
    path.write_bytes(b"ftrt" + bytes(1000))
    assert engine_header_size(path) == 0
    assert read_metadata(path) == {}
    write_engine(path, {"names": 1})
    header = json.dumps({"names": 1}).encode()
    assert path.read_bytes()[engine_header_size(path) :].startswith(b"ftrt")
    assert engine_header_size(path) == 4 + len(header)


def test_a_nested_header_is_no_header(tmp_path: Path) -> None:
    nested = b'{"a":' + b"[" * 100_000
    path = tmp_path / "nested.engine"
    path.write_bytes(len(nested).to_bytes(4, "little") + nested)
    assert engine_header_size(path) == 0


def test_nested_metadata_of_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/extra/config.txt", "[" * 100_000)
    with pytest.raises(ModelFileError, match=r"net\.torchscript cannot be read"):
        read_metadata(path)


def test_a_metadata_field_longer_than_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    entry = b"\x0a" + b"\xff" * 9 + b"\x01"  # key of 2^64 - 1 bytes
    path.write_bytes(bytes([14 << 3 | 2, len(entry)]) + entry)
    with pytest.raises(ModelFileError, match="longer than its field says"):
        read_metadata(path)


def test_a_damaged_archive_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/extra/config.txt", json.dumps(ULTRALYTICS) * 100)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"net\.torchscript cannot be read as a \.torchscript file"):
        read_metadata(path)


@pytest.fixture(scope="module")
def good_artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("artifacts")
    contents = {}
    for name, (write, _) in WRITERS.items():
        write(folder / name, ULTRALYTICS)
        contents[name] = (folder / name).read_bytes()
    return contents


fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
@fuzz
def test_damage_gives_metadata_or_a_model_file_error(
    tmp_path: Path, good_artifacts: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    content = bytearray(good_artifacts[name])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    expect_metadata_or_error(path)


@pytest.mark.parametrize("name", WRITERS)
@given(garbage=st.binary(max_size=200))
@fuzz
def test_garbage_gives_metadata_or_a_model_file_error(tmp_path: Path, name: str, garbage: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(garbage)
    expect_metadata_or_error(path)
    header = b'{"names": ' + garbage
    path.write_bytes(len(header).to_bytes(4, "little") + header)
    expect_metadata_or_error(path)


def expect_metadata_or_error(path: Path) -> None:
    try:
        metadata = read_metadata(path)
    except ModelFileError as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(text, str) for pair in metadata.items() for text in pair)
    try:
        load_model(path)
    except ModelFileError as error:
        assert str(path) in str(error)
