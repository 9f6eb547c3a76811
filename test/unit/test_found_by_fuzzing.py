"""What `make fuzz` found: each input once ended in a traceback, or in memory that no machine has."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trt_perception.artifact_metadata import read_metadata
from trt_perception.backends.tensorrt_runtime.manifest import EngineKey, EngineManifest, manifest_path, read_manifest
from trt_perception.class_choice import ClassChoice
from trt_perception.control_budget import BudgetMonitor
from trt_perception.encodings import decode_image
from trt_perception.errors import BackendError, ImageError, ModelFileError, OutputError
from trt_perception.heads import HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.models import load_model
from trt_perception.onnx_nodes import read_nodes
from trt_perception.onnx_report import report_onnx
from trt_perception.placement import NetworkToImage
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.types import Image, Thresholds


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_a_crop_of_a_very_long_picture_is_not_sixteen_terabytes(size: tuple[int, int]) -> None:
    preprocess = Preprocessor(InputSpec(224, 224, resize="crop", short_side=16384))
    with pytest.raises(ImageError, match=r"before it is cropped, more than 67108864 pixels"):
        preprocess(Image(np.zeros((*size, 3), np.uint8), "bgr"))


def test_the_step_of_a_single_row_may_be_anything() -> None:
    image = decode_image("bgr8", 2, 1, 2**63, bytes(range(6)))
    assert image.pixels.tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_scores_that_overflow_are_no_detections() -> None:
    output = np.full((1, 84, 8), 1e30)
    choice = ClassChoice(Thresholds(), ("a", "b", "c"))
    with np.errstate(over="ignore"), pytest.raises(OutputError, match="scores hold NaN or infinite values"):
        postprocess([output], head_for("yolov5"), HeadContext(64, 64, 3), choice, NetworkToImage(1, 1, 0, 0, 64, 64))


@pytest.mark.parametrize("value", [1e308, -1e308, 1e13])
def test_a_latency_report_of_absurd_size_does_not_end_the_monitor(value: float) -> None:
    monitor = BudgetMonitor(["a"], 50.0)
    assert not monitor.add_latency("a", 0, {"inference_start_offset_ms": value, "inference_ms": 1.0}, 10**9)
    assert not monitor.add_latency("a", 0, {"inference_start_offset_ms": 0.0, "inference_ms": value}, 10**9)
    assert "expected a finite number" in monitor.report(10**9).problems[0] or value < 0


def test_the_name_of_a_model_may_be_very_long() -> None:
    with pytest.raises(ModelFileError, match="no model named 'aaaa"):
        load_model("a" * 5000)


def test_a_manifest_with_an_infinite_size_is_none(tmp_path: Path) -> None:
    engine = tmp_path / "net.engine"
    manifest = EngineManifest(EngineKey("a", "b", "c", "d", "fp16"), "e", 5, onnx="x")
    manifest_path(engine).write_text(json.dumps({**json.loads(manifest.to_json()), "engine_bytes": float("inf")}))
    with pytest.raises(BackendError, match="is no engine manifest"):
        read_manifest(engine)


def test_a_number_without_end_in_an_onnx_takes_no_time() -> None:
    with pytest.raises(ModelFileError, match="this is no ONNX model"):
        read_nodes(b"\x80" * 1_000_000)


def test_an_archive_whose_entry_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/extra/config.txt", '{"task": "detect"}')
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") + 20  # compressed size in the central directory
    content[start : start + 4] = (0x7FFFFFF0).to_bytes(4, "little")
    path.write_bytes(content)
    assert read_metadata(path) == {}


def test_the_producer_of_an_onnx_need_not_be_utf8(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the onnx package reads graphs")
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x08\x12\x02\xff\xfe\x3a\x00")
    assert report_onnx(path).producer == "\ufffd\ufffd"


def test_an_input_without_cells_gives_no_boxes() -> None:
    choice = ClassChoice(Thresholds(), ("a",))
    outputs = [np.zeros((1, 0, 6), np.float32)]
    found = postprocess(outputs, head_for("yolox"), HeadContext(0, 0, 1), choice, NetworkToImage(1, 1, 0, 0, 64, 64))
    assert len(found) == 0


def test_scores_may_be_of_a_type_without_negative_numbers() -> None:
    found = postprocess(
        [np.ones((1, 5, 84), np.uint8)],
        head_for("yolov8"),
        HeadContext(64, 64, 1),
        ClassChoice(Thresholds(), ("a",)),
        NetworkToImage(1, 1, 0, 0, 64, 64),
    )
    assert len(found) >= 1
