"""Models: model files, labels, the metadata of every kind of artifact, weights beside an ONNX, manifests of engines."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import onnx

from test.fuzz.mutate import BYTES, TEXTS, any_value, changed, mutated
from test.fuzz.target import Target, file, folder
from test.unit.engine.onnx_models import branching_model, conv_model
from test.unit.test_model_file import FULL
from trt_perception.artifact_metadata import engine_header_size, onnx_input, read_metadata
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.tensorrt_runtime.engine_cache import cached_engines, runtime_differences
from trt_perception.backends.tensorrt_runtime.manifest import EngineKey, read_manifest
from trt_perception.class_choice import ClassChoice
from trt_perception.engine.options import parse_layer_precisions
from trt_perception.engine.shapes import parse_memory_pools, parse_shapes
from trt_perception.external_data import external_files
from trt_perception.model_file_reader import load_model_file, read_labels
from trt_perception.models import load_model
from trt_perception.onnx_nodes import read_nodes
from trt_perception.onnx_precision import onnx_precision
from trt_perception.onnx_report import report_onnx
from trt_perception.trust import Trust
from trt_perception.types import Thresholds

_YAML = FULL.replace("SHA", "ab" * 32).encode()
_SHORT_YAML = b"artifacts: {onnx: net.onnx}\ninput: {width: 32, height: 24}\nlabels: labels.txt\n"
_YAML_WORDS = (
    *(b"&a ", b"*a", b"!!python/name:os.system ", b"!!binary ", b"<<: ", b"? ", b"- ", b"|\n", b">-\n", b"---\n"),
    *(b"...\n", b"{", b"}", b"[", b"]", b": ", b", ", b"'", b'"', b"#", b"%", b"@", b"\t", b"\n  ", b"~", b"yes"),
    *(b".inf", b".nan", b"0x" + b"F" * 40, b"1_000", b"190:20:30", b"2024-13-01", b"2001-12-14t21:59:43.10-05:00"),
    *(b"1e400", b"[" * 200, b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\xc3\x28", b"\xe2\x80\xa8", b"\\x00"),
    *(b'"\\ud800"', b"labels", b"input", b"onnx", b"sha256: ", b"../"),
)
_ULTRALYTICS: dict[str, Any] = {
    "description": "Ultralytics YOLO11n model",
    "names": "{0: 'person', 1: 'bicycle'}",
    "imgsz": "[320, 256]",
    "stride": "32",
    "task": "detect",
    "channels": 3,
    "end2end": False,
}
_LITERALS = (
    *("-" * 3000 + "1", "(" * 150, "{0: " * 90, "[1," * 60 + "1" + "]" * 60, "1" * 5000, "{0: 'a', 1: b'a'}", "{1:{}}"),
    *("{0: 'a', 0: 'b'}", "{True: 'a'}", "{0: 'a', 1.0: 'b'}", "{-1: 'a'}", "'abc'", "1e999", "[1e999, 1]", "None"),
)
_KEY = {
    "onnx_sha256": "a" * 64,
    "tensorrt_version": "8.6.0",
    "gpu_name": "NVIDIA H200",
    "compute_capability": "9.0",
    "precision": "fp16",
    "shapes": {"images": "1x3x2x2/1x3x2x2/1x3x2x2"},
    "options": {"versionCompatible": "true", "hardwareCompatibilityLevel": "ampere+"},
}
_MANIFEST = {
    "format": 1,
    "key": _KEY,
    "engine_sha256": "b" * 64,
    "engine_bytes": 5,
    "onnx": "model.onnx",
    "metadata": {"task": "detect"},
    "built_at": "2026-01-01T00:00:00",
    "build_s": 1.5,
    "notes": ["a note"],
}
_HERE = EngineKey("a" * 64, "10.3.0", "NVIDIA H200", "9.0", "fp16")


def model_file(random: Random) -> None:
    text = mutated(random, random.choice((_YAML, _YAML, _SHORT_YAML)), _YAML_WORDS, 2)
    file("labels.txt", b"a\nb\n")
    model = load_model_file(file("model.yaml", text), random.choice((Trust(), Trust(True), Trust(False, (folder(),)))))
    assert 1 <= model.input.width <= 16384 and 0 <= model.thresholds.score <= 1
    ClassChoice(model.thresholds, model.labels)


def labels(random: Random) -> None:
    content = mutated(random, b"stop\nno entry\n7\n", (*BYTES, *_YAML_WORDS))
    assert all(read_labels(file("labels.txt", content)))


def _metadata(random: Random) -> dict[str, Any]:
    metadata = dict(_ULTRALYTICS)
    for key in ("names", "imgsz"):
        choice = random.randrange(6)
        if choice == 0:
            metadata[key] = random.choice(_LITERALS)
        elif choice == 1:
            metadata[key] = repr(any_value(random))
    other = changed(random, metadata) if random.random() < 0.9 else metadata
    return other if isinstance(other, dict) else metadata


def _load(path: Path) -> None:
    metadata = read_metadata(path)
    assert all(isinstance(text, str) for pair in metadata.items() for text in pair)
    model = load_model(path)
    assert model.labels and 1 <= model.input.width <= 16384


@cache
def _networks() -> tuple[bytes, ...]:
    found = [conv_model(4, 1), branching_model()]
    model = onnx.load_from_string(conv_model(4, 1))
    onnx.helper.set_model_props(model, {k: str(v) for k, v in _ULTRALYTICS.items()})
    found.append(model.SerializeToString())
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="labels.txt")
    found.append(model.SerializeToString())
    return tuple(found)


def _message(random: Random, depth: int = 6) -> bytes:
    """Random fields, nested, with numbers that onnx.proto uses."""
    parts = []
    for _ in range(random.randrange(1, 4)):
        number = random.choice((1, 2, 5, 6, 7, 8, 10, 11, 13, 14, 20, 25, 536870911, 0))
        wire = random.choice((0, 2, 2, 2, 2, 1, 5, 3, 7))
        body = _message(random, depth - 1) if depth and wire == 2 else random.choice(BYTES)
        length = len(body) if random.random() < 0.97 else random.choice((0, 1, 2**31, 2**64 - 1))
        parts.append(_varint(number << 3 | wire) + (_varint(length) if wire == 2 else b"") + body)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _onnx(random: Random) -> bytes:
    content = random.choice(_networks())
    return mutated(random, content) if random.random() < 0.8 else b"\x3a" + _varint(5) + _message(random)


def onnx_file(random: Random) -> None:
    path = file("net.onnx", _onnx(random))
    onnx_input(path)
    _load(path)


def onnx_weights(random: Random) -> None:
    path = file("net.onnx", _onnx(random))
    inside = folder().resolve()
    assert all(found.is_relative_to(inside) for found in external_files(path).values())
    onnx_precision(path)


def onnx_nodes(random: Random) -> None:
    read_nodes(_onnx(random))


def onnx_graph(random: Random) -> None:
    report = report_onnx(file("net.onnx", _onnx(random)))
    assert report.parameters >= 0


def metadata_text(random: Random) -> None:
    """Damage above the container: a whole ONNX whose metadata says odd things."""
    entries = b""
    for key, value in _metadata(random).items():
        pair = b"".join(
            tag + _varint(len(text)) + text for tag, text in ((b"\x0a", _bytes(key)), (b"\x12", _bytes(value)))
        )
        entries += b"\x72" + _varint(len(pair)) + pair
    _load(file("net.onnx", b"\x08\x08" + entries))


def _bytes(value: object) -> bytes:
    return str(value).encode("utf-8", "replace")


def torchscript_file(random: Random) -> None:
    archive = io.BytesIO()
    text = json.dumps(_metadata(random)).encode()
    with zipfile.ZipFile(archive, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as target:
        target.writestr("net/data.pkl", b"")
        target.writestr("net/extra/config.txt", mutated(random, text) if random.random() < 0.3 else text)
    content = archive.getvalue()
    _load(file("net.torchscript", mutated(random, content) if random.random() < 0.6 else content))


def engine_file(random: Random) -> None:
    header = json.dumps(_metadata(random)).encode()
    if random.random() < 0.4:
        header = mutated(random, header)
    content = len(header).to_bytes(4, "little") + header + b"ftrt"
    path = file("net.engine", mutated(random, content) if random.random() < 0.4 else content)
    assert 0 <= engine_header_size(path) <= path.stat().st_size
    _load(path)


def manifest(random: Random) -> None:
    text = json.dumps(changed(random, _MANIFEST)).encode()
    if random.random() < 0.3:
        text = mutated(random, text)
    engine = file("net.engine", b"12345")
    file("net.engine.json", text)
    try:
        cached_engines(folder())
        read_metadata(engine)
        found = read_manifest(engine)
    finally:
        (folder() / "net.engine.json").unlink()
    assert found is not None
    found.problem(engine)
    runtime_differences(found.key, _HERE)
    found.key.differences(_HERE)
    json.loads(found.to_json())


def options(random: Random) -> None:
    """Texts of parameters and of the command line."""
    parse, text = random.choice(
        (
            (BackendRequest.parse, "torchscript:cuda:1:fp16"),
            (parse_shapes, "images:1x3x320x320,mask:1x1"),
            (parse_memory_pools, "workspace:2048,tacticSharedMem:64K"),
            (parse_layer_precisions, "conv1:fp32,head/conv2:fp16"),
            (lambda words: Trust(False, (folder(),)).checked(Path(words), "model"), str(folder() / "net.onnx")),
            (lambda words: ClassChoice(Thresholds(classes=(words,)), ("a", "b")), "a"),
            (load_model, "digits"),
        )
    )
    words = random.choice(TEXTS) if random.random() < 0.1 else mutated(random, text.encode()).decode("utf-8", "replace")
    parse(words)


TARGETS = (
    Target("model_file", model_file, 0.5),
    Target("labels", labels, 1.0),
    Target("onnx_file", onnx_file, 2.0),
    Target("onnx_weights", onnx_weights, 3.0),
    Target("onnx_nodes", onnx_nodes, 3.0),
    Target("onnx_graph", onnx_graph, 1.0),
    Target("metadata_text", metadata_text, 2.0),
    Target("torchscript_file", torchscript_file, 1.0),
    Target("engine_file", engine_file, 2.0),
    Target("manifest", manifest, 1.0),
    Target("options", options, 3.0),
)
