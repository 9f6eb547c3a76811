"""A network of an odd shape, made on the spot: without a model file its boxes are right in pictures of any size."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from test.blob_network import (
    HEIGHT_PX,
    LAYOUTS,
    NAMES,
    SCORE,
    WIDTH_PX,
    as_rows,
    network,
    paint,
    placements,
    write_onnx,
)
from test.commands import trt_perception
from trt_perception.backends.first_backend import open_first
from trt_perception.detector import Detector
from trt_perception.errors import BackendError, ModelFileError
from trt_perception.models import load_model

SIZES = [(640, 480), (1920, 1080), (300, 500), (1000, 260)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


def onnx_file(folder: Path, layout: str) -> Path:
    """The network in that layout, exported once, with names alone in its metadata."""
    path = folder / f"{layout.replace(', ', '_').replace(' ', '_')}.onnx"
    if not path.exists():
        write_onnx(path, layout, {"names": dict(enumerate(LAYOUTS[layout].labels))})
    return path


def tolerance_px(width: int, height: int) -> float:
    """A pixel and a half of the network, in pixels of the picture: the borders are blurred by the resizing."""
    return 1.5 / min(WIDTH_PX / width, HEIGHT_PX / height)


def expect_boxes_where_they_were_painted(detector: Detector) -> None:
    for width, height in SIZES:
        placed = placements(width, height)
        found = detector.detect(paint(width, height, placed)).detections
        names = [detector.model.label(int(i)) for i in found.class_ids]
        assert sorted(names) == sorted(placed)
        order = [names.index(name) for name in placed]
        np.testing.assert_allclose(found.boxes_xyxy[order], as_rows(placed), atol=tolerance_px(width, height))
        np.testing.assert_allclose(found.scores, SCORE, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_are_right_in_pictures_of_every_size(folder: Path, layout: str) -> None:
    with Detector.open(onnx_file(folder, layout)) as detector:
        assert detector.recognised.name == LAYOUTS[layout].head, detector.recognised.reason
        expect_boxes_where_they_were_painted(detector)
        assert len(detector.detect(paint(640, 480, {})).detections) == 0


@pytest.mark.parametrize("size", [(640, 352), (320, 320)])
def test_a_network_of_free_size_runs_at_the_size_that_is_asked_for(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "free.onnx"
    write_onnx(path, "yolov8", {"names": dict(enumerate(NAMES))}, free_size=True)
    with pytest.raises(ModelFileError, match="no imgsz in its metadata"):
        Detector.open(path)
    model = tmp_path / "free.yaml"
    model.write_text(f"artifacts: {{onnx: free.onnx}}\ninput: {{width: {size[0]}, height: {size[1]}}}\n")
    with Detector.open(model) as detector:
        assert detector.recognised.name == "yolov8"
        placed = placements(1000, 260)
        found = detector.detect(paint(1000, 260, placed)).detections
        order = [found.class_ids.tolist().index(NAMES.index(name)) for name in placed]
        np.testing.assert_allclose(found.boxes_xyxy[order], as_rows(placed), atol=1.5 * 1000 / size[0])


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "torchvision"])
def test_a_batch_fixed_at_three_is_filled_up(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "three.onnx"
    write_onnx(path, layout, {"names": dict(enumerate(LAYOUTS[layout].labels))}, fixed_batch=3)
    with Detector.open(path) as detector:
        assert detector.info.inputs[0].shape[0] == 3
        assert "the network's batch is fixed at 3: places without a picture are filled" in detector.info.notes[0]
        assert detector.recognised.name == LAYOUTS[layout].head
        expect_boxes_where_they_were_painted(detector)
        assert detector.max_batch == 3
        pictures = [paint(*size, placements(*size)) for size in SIZES[:2]]
        for picture, result in zip(pictures, detector.detect_batch(pictures), strict=True):
            alone = detector.detect(picture).detections
            np.testing.assert_allclose(result.detections.boxes_xyxy, alone.boxes_xyxy, atol=1e-3)


def test_inspect_says_what_a_fixed_batch_costs(tmp_path: Path) -> None:
    path = tmp_path / "three.onnx"
    write_onnx(path, "yolov8", {"names": dict(enumerate(NAMES))}, fixed_batch=3)
    done = trt_perception(["inspect", path])
    assert "  note: the network's batch is fixed at 3: places without a picture" in done.stdout
    assert "missing: nothing, it can be run" in done.stdout
    good, data = cv2.imencode(".png", paint(640, 480, placements(640, 480)))
    assert good
    (tmp_path / "a.png").write_bytes(data.tobytes())
    done = trt_perception(["detect", tmp_path / "a.png", "--model", path])
    assert "red 0.90" in done.stdout
    assert "the network's batch is fixed at 3" in done.stderr


def test_more_pictures_than_a_fixed_batch_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    write_onnx(path, "yolov8", {"names": dict(enumerate(NAMES))}, fixed_batch=2)
    backend = open_first(load_model(path), "onnxruntime")
    with backend:
        pictures = np.random.default_rng(0).random((3, 3, HEIGHT_PX, WIDTH_PX), np.float32)
        (both,) = backend.infer(pictures[:2]).arrays
        for place in (0, 1):
            (alone,) = backend.infer(pictures[place : place + 1]).arrays
            assert alone.shape == (1, *both.shape[1:])
            np.testing.assert_array_equal(alone[0], both[place])
        with pytest.raises(BackendError, match=r"shape \(3, 3, 384, 672\); the network takes images: float32 \(2, 3"):
            backend.infer(pictures)
        with pytest.raises(BackendError, match=r"got a float32 tensor of shape \(0, 3"):
            backend.infer(pictures[:0])


@pytest.mark.parametrize("layout", ["yolov8", "yolox", "rtdetr", "torchvision"])
def test_archives_show_their_outputs_in_one_run(folder: Path, layout: str) -> None:
    import torch

    path = folder / f"{layout}.torchscript"
    example = torch.zeros(1, 3, HEIGHT_PX, WIDTH_PX)
    config = {"names": dict(enumerate(LAYOUTS[layout].labels)), "imgsz": [HEIGHT_PX, WIDTH_PX], "task": "detect"}
    traced = torch.jit.trace(network(layout), example)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(path), _extra_files={"config.txt": json.dumps(config)})
    with Detector.open(path, "torchscript:cpu") as detector:
        assert detector.recognised.name == layout
        placed = placements(1000, 260)
        found = detector.detect(paint(1000, 260, placed)).detections
        assert {detector.model.label(int(i)) for i in found.class_ids} == set(placed)


def test_inspect_says_what_it_is(folder: Path) -> None:
    path = onnx_file(folder, "yolov8")
    done = trt_perception(["inspect", path, "--json", "--check"])
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ready"] is True
    assert document["model"]["labels"] == list(NAMES)
    assert (document["model"]["input"]["width"], document["model"]["input"]["height"]) == (WIDTH_PX, HEIGHT_PX)
    (artifact,) = document["artifacts"]
    assert artifact["head"]["name"] == "yolov8"
    assert "7 rows for 4 + 3 classes" in artifact["head"]["reason"]
    (given,) = artifact["inputs"]
    assert given == {"name": "images", "dtype": "float32", "shape": ["batch", 3, HEIGHT_PX, WIDTH_PX]}
    assert artifact["onnx"]["opset"] == {"": 17}
    assert artifact["problems"] == []


def test_detect_runs_it_and_says_the_same(folder: Path, tmp_path: Path) -> None:
    for width, height in SIZES:
        good, data = cv2.imencode(".png", paint(width, height, placements(width, height)))
        assert good
        (tmp_path / f"{width}x{height}.png").write_bytes(data.tobytes())
    done = trt_perception(["detect", tmp_path, "--model", onnx_file(folder, "yolov8"), "--json"])
    assert done.returncode == 0, done.stderr
    assert "head yolov8: 7 rows for 4 + 3 classes" in done.stderr
    images = {image["name"]: image for image in json.loads(done.stdout)["images"]}
    for width, height in SIZES:
        found = {d["class_name"]: d["box_xyxy_px"] for d in images[f"{width}x{height}.png"]["detections"]}
        for name, box in placements(width, height).items():
            np.testing.assert_allclose(found[name], box, atol=tolerance_px(width, height))


def test_the_options_of_detect_reach_the_detector(folder: Path, tmp_path: Path) -> None:
    good, data = cv2.imencode(".png", paint(640, 480, placements(640, 480)))
    assert good
    picture = tmp_path / "a.png"
    picture.write_bytes(data.tobytes())
    model = onnx_file(folder, "yolov8")

    def names(*options: str) -> list[str]:
        done = trt_perception(["detect", picture, "--model", model, "--json", *options])
        assert done.returncode == 0, done.stderr
        return [d["class_name"] for d in json.loads(done.stdout)["images"][0]["detections"]]

    assert sorted(names()) == ["green", "red"]
    assert names("--classes", "green", "blue") == ["green"]
    assert len(names("--max-detections", "1")) == 1
    done = trt_perception(["detect", picture, "--model", model, "--classes", "violet"])
    assert done.returncode == 1
    assert "no class 'violet'; its classes are red, green, blue" in done.stderr
    assert trt_perception(["detect", picture, "--max-detections", "0"]).returncode == 2


def test_a_written_model_file_gives_the_same_boxes(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.yaml"
    done = trt_perception(["inspect", onnx_file(folder, "yolox"), "--write-model-file", target])
    assert done.returncode == 0, done.stderr
    assert f"wrote {target}" in done.stdout
    model = load_model(target)
    assert (model.head, model.labels, model.artifact("onnx").sha256 is None) == ("yolox", NAMES, False)
    picture = paint(640, 480, placements(640, 480))
    with Detector.open(target) as written, Detector.open(onnx_file(folder, "yolox")) as bare:
        np.testing.assert_array_equal(
            written.detect(picture).detections.boxes_xyxy, bare.detect(picture).detections.boxes_xyxy
        )
    again = trt_perception(["inspect", onnx_file(folder, "yolox"), "--write-model-file", target])
    assert again.returncode == 1
    assert "is there already; give another name" in again.stderr


def test_two_heads_that_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    # Two classes and joined scores make six columns, as networks that choose their boxes themselves have.
    path = tmp_path / "six.onnx"
    write_onnx(path, "end_to_end", {"names": {0: "a", 1: "b"}})
    with pytest.raises(
        ModelFileError, match=r"fit more than one head: end_to_end \(.*\), rtdetr \(.*name one as `head`"
    ):
        Detector.open(path)
    done = trt_perception(["inspect", path])
    assert done.returncode == 0
    assert done.stdout.count("missing: the network's outputs") == 1
    write_onnx(path, "end_to_end", {"names": {0: "a", 1: "b"}, "end2end": "True"})
    with Detector.open(path) as detector:
        assert detector.recognised.name == "end_to_end"
        assert "its metadata's end2end is 'True'" in detector.recognised.reason


def test_what_fits_no_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    write_onnx(path, "yolov8", {"names": {i: str(i) for i in range(80)}})
    with pytest.raises(ModelFileError, match="fit no head for 672x384 and 80 named classes; correct `labels`"):
        Detector.open(path)
