"""Weights beside an ONNX file are loaded from its own folder, whole and unchanged, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from test.commands import trt_perception
from test.unit.engine.onnx_models import branching_model, conv_model
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import create_backend
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend
from trt_perception.checksum import file_sha256
from trt_perception.errors import BackendError, ModelFileError
from trt_perception.external_data import external_files, onnx_digest
from trt_perception.models import load_model

CPU = BackendRequest.parse("onnxruntime:cpu")


def write(folder: Path, location: str = "weights.bin") -> Path:
    """conv_model with its weights in a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "net.onnx"
    model = onnx.load_from_string(conv_model())
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0, convert_attribute=True
    )
    if location != "weights.bin":
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        external_files(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_most_models_have_none(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    for content in (conv_model(), branching_model()):
        path.write_bytes(content)
        assert external_files(path) == {}
        assert onnx_digest(path) == file_sha256(path)


def test_weights_beside_the_model_are_found_and_loaded(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert external_files(path) == {"weights.bin": tmp_path / "weights.bin"}
    with OnnxRuntimeBackend(CPU, path) as backend:
        result = backend.infer(np.ones((1, 3, 16, 16), np.float32)).arrays[0]
    whole = tmp_path / "whole.onnx"
    whole.write_bytes(conv_model())
    with OnnxRuntimeBackend(CPU, whole) as backend:
        np.testing.assert_array_equal(result, backend.infer(np.ones((1, 3, 16, 16), np.float32)).arrays[0])


OUTSIDE: dict[str, tuple[Callable[[Path], str], str]] = {
    "above": (lambda _: "../weights.bin", "leads out of its folder"),
    "above by a detour": (lambda _: "sub/../../weights.bin", "leads out of its folder"),
    "absolute": (lambda folder: str(folder.parent / "weights.bin"), "is no path beside it"),
    "absolute, in its own folder": (lambda folder: str(folder / "weights.bin"), "is no path beside it"),
    "a device": (lambda _: "/dev/zero", "is no path beside it"),
    "a link that leads out": (lambda _: "link.bin", "leads out of its folder"),
    "a link in a circle": (lambda _: "circle", "is no path|does not exist"),
    "a folder": (lambda _: "sub", "does not exist"),
    "nothing": (lambda _: "", "is no path beside it"),
    "a zero byte": (lambda _: "a\0b", "is no path"),
    "absent": (lambda _: "absent.bin", "does not exist"),
    "very long": (lambda _: "a" * 5000, "is no path"),
    "an address in memory": (lambda _: "*/_ORT_MEM_ADDR_/*", "is no path beside it"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_weights_from_elsewhere_are_refused_before_a_library_reads_them(tmp_path: Path, case: str) -> None:
    location, words = OUTSIDE[case]
    folder = tmp_path / "model"
    folder.mkdir()
    path = write(folder, location(folder))
    (tmp_path / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    (folder / "sub").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "circle").symlink_to(folder / "circle")
    special = folder / "*" / "_ORT_MEM_ADDR_"
    special.mkdir(parents=True)
    (special / "*").write_bytes(bytes(10_000))
    message = refused(path)
    assert any(part in message for part in words.split("|")), message
    with pytest.raises(BackendError) as caught:
        OnnxRuntimeBackend(CPU, path).open()
    assert message in str(caught.value)
    with pytest.raises(ModelFileError):
        onnx_digest(path)


def test_a_cache_of_links_into_one_folder_works(tmp_path: Path) -> None:
    store = write(tmp_path / "store").parent
    links = tmp_path / "links"
    links.mkdir()
    for name in ("net.onnx", "weights.bin"):
        (links / name).symlink_to(store / name)
    assert external_files(links / "net.onnx") == {"weights.bin": store / "weights.bin"}


def test_truncated_weights_are_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert f"takes its weights from {weights}, which is truncated" in refused(path)


def tensor(location: str) -> Any:
    made = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="location", value=location)
    return made


def in_an_attribute(model: Any) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor("../x")))


def in_a_list_of_tensors(model: Any) -> None:
    node = helper.make_node("Odd", [], ["c"], domain="my")
    node.attribute.append(helper.make_attribute("all", [tensor("../x")]))
    model.graph.node.append(node)


def in_the_body_of_an_if(model: Any) -> None:
    body = helper.make_graph([], "body", [], [], [tensor("../x")])
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=body, else_branch=body))


def in_a_sparse_tensor(model: Any) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor("../x"))


def in_a_function(model: Any) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor("../x"))
    model.functions.append(helper.make_function("my", "F", [], ["c"], [node], [helper.make_opsetid("", 17)]))


def in_training_info(model: Any) -> None:
    model.training_info.add().algorithm.initializer.append(tensor("../x"))


def not_called_external(model: Any) -> None:
    hidden = tensor("../x")
    hidden.ClearField("data_location")
    model.graph.initializer.append(hidden)


@pytest.mark.parametrize(
    "hide",
    [
        in_an_attribute,
        in_a_list_of_tensors,
        in_the_body_of_an_if,
        in_a_sparse_tensor,
        in_a_function,
        in_training_info,
        not_called_external,
    ],
)
def test_no_tensor_is_overlooked(tmp_path: Path, hide: Callable[[Any], None]) -> None:
    model = onnx.load_from_string(conv_model())
    hide(model)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    assert "leads out of its folder" in refused(path)


def test_a_field_that_another_reader_would_see_as_the_graph_is_refused(tmp_path: Path) -> None:
    content = bytearray(conv_model())
    path = tmp_path / "net.onnx"
    # The number of the graph's field with a bit above the 32 that other readers keep.
    path.write_bytes(bytes(content) + b"\xba\x80\x80\x80\x10\x00")
    assert "longer than 32 bits" in refused(path)


def test_graphs_in_graphs_without_end(tmp_path: Path) -> None:
    body = b""
    for _ in range(400):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            length = len(body)
            varint = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])
            body = tag + varint + body
    length = len(body)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x3a" + bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]) + body)
    assert "64 deep" in refused(path)


# --- hashes -----------------------------------------------------------------------------------------------------


def model_file(folder: Path, data: dict[str, str]) -> Path:
    entries = ", ".join(f"{key}: {value}" for key, value in data.items())
    external = f", external_data: {{{entries}}}" if data else ""
    path = folder / "model.yaml"
    path.write_text(
        f"artifacts: {{onnx: {{path: net.onnx, sha256: {file_sha256(folder / 'net.onnx')}{external}}}}}\n"
        "input: {width: 16, height: 16}\nhead: yolov8\n"
    )
    return path


def test_the_hash_of_an_onnx_alone_does_not_vouch_for_its_weights(tmp_path: Path) -> None:
    write(tmp_path)
    model = load_model(model_file(tmp_path, {}))
    with pytest.raises(ModelFileError, match=r"weights beside it have none; add external_data: \{weights\.bin: SHA256"):
        create_backend(CPU, model)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    weights = tmp_path / "weights.bin"
    model = load_model(model_file(tmp_path, {"weights.bin": file_sha256(weights)}))
    create_backend(CPU, model)
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"weights\.bin has sha256 .*, the model file says"):
        create_backend(CPU, model)


def test_a_hash_of_weights_that_the_model_does_not_have(tmp_path: Path) -> None:
    write(tmp_path)
    model = load_model(model_file(tmp_path, {"weights.bin": file_sha256(tmp_path / "weights.bin"), "b": "ab" * 32}))
    with pytest.raises(ModelFileError, match=r"takes no weights from 'b'.*it takes them from weights\.bin"):
        create_backend(CPU, model)


def test_a_hash_of_weights_needs_the_hash_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(
        "artifacts:\n  onnx: {path: net.onnx, external_data: {w: " + "ab" * 32 + "}}\ninput: {width: 16, height: 16}\n"
    )
    with pytest.raises(ModelFileError, match=r"line 2: artifacts\.onnx\.external_data needs the sha256"):
        load_model(path)


def test_other_weights_make_another_engine(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = onnx_digest(path)
    weights = tmp_path / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content)
    assert onnx_digest(path) != before != file_sha256(path)


def test_inspect_writes_the_hash_of_the_weights_too(tmp_path: Path) -> None:
    path = write(tmp_path)
    done = trt_perception(["inspect", path, "--write-model-file", tmp_path / "new.yaml"])
    assert done.returncode == 0, done.stderr
    assert f"weights in weights.bin: sha256 {file_sha256(tmp_path / 'weights.bin')}" in done.stdout
    artifact = load_model(tmp_path / "new.yaml").artifact("onnx")
    assert dict(artifact.external_data) == {"weights.bin": file_sha256(tmp_path / "weights.bin")}
    artifact.verify("onnx")
