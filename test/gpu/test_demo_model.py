"""The demo model's engines against ONNX Runtime on the CPU: what they find, through the whole detector."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from test.gpu.conftest import TACTICS, TIMINGS
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import create_backend
from trt_perception.detector import Detector
from trt_perception.evaluation import mean_average_precision, pairwise_iou
from trt_perception.heldout import heldout_scenes
from trt_perception.model_file import Artifact, ModelFile
from trt_perception.models import load_model
from trt_perception.preprocess import Preprocessor
from trt_perception.scene_composer import Scene
from trt_perception.types import Detections, Image

SCENES = 200
WIDTH, HEIGHT = 640, 480
# Kernel timings are shared, so that each further engine builds faster.
TUNING = [f"--tacticSources={TACTICS}", *TIMINGS]
# Below this score a box may come or go by rounding alone.
SURE = 0.5
OPTIONS = {
    "fp32": ["--noTF32"],
    "fp16": ["--fp16"],
    "int8": ["--int8", "--fp16"],
}
MIN_MEAN_IOU = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}
# Of a candidate's box and the same candidate's box in the reference.
MIN_IOU = 0.98
# Detections whose box is another candidate's: of two that claim a digit with the same score, rounding chooses.
MOST_SWAPPED = {"fp32": 0.0, "fp16": 0.01, "int8": 1.0}
MAX_MAP_DIFFERENCE = {"fp32": 0.005, "fp16": 0.005, "int8": 0.02}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(heldout_scenes(SCENES, WIDTH, HEIGHT, seed=5))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures for calibration: other scenes than those that are judged."""
    folder = tmp_path_factory.mktemp("calibration")
    for index, scene in enumerate(heldout_scenes(100, WIDTH, HEIGHT, seed=77)):
        cv2.imwrite(str(folder / f"{index:03d}.png"), scene.image_bgr)
    return folder


@pytest.fixture(scope="module")
def reference(scenes: list[Scene]) -> list[Detections]:
    with Detector.open("digits", "onnxruntime:cpu") as detector:
        return [detector.detect(scene.image_bgr).detections for scene in scenes]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """trt-perception in a process of its own, as a user runs it."""
    line = [sys.executable, "-m", "trt_perception.cli.main", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)


def built(precision: str, pictures: Path, *more: str) -> Path:
    images = ["--calibImages", str(pictures)] if precision == "int8" else []
    done = command("build-engine", "--model", "digits", "--json", *TUNING, *OPTIONS[precision], *images, *more)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["engine"])


def digits_as(engine: Path) -> ModelFile:
    """The demo model as that very engine; of an ONNX file the newest in the cache would be taken."""
    return replace(load_model("digits"), artifacts={"engine": Artifact(engine)})


def overlaps(found: Sequence[Detections], reference: Sequence[Detections]) -> NDArray[np.float64]:
    """For each sure reference box the overlap with the best box of its class."""
    best: list[float] = []
    for ours, theirs in zip(found, reference, strict=True):
        sure = theirs.scores > SURE
        iou = pairwise_iou(theirs.boxes_xyxy[sure], ours.boxes_xyxy)
        same = theirs.class_ids[sure][:, None] == ours.class_ids[None]
        best += np.where(same, iou, 0.0).max(axis=1, initial=0.0).tolist()
    return np.asarray(best)


@pytest.mark.parametrize("precision", OPTIONS)
def test_an_engine_finds_what_onnxruntime_finds(
    precision: str, pictures: Path, scenes: list[Scene], reference: list[Detections]
) -> None:
    with Detector.open(digits_as(built(precision, pictures)), f"tensorrt:{precision}") as detector:
        assert detector.info.precision == precision
        found = [detector.detect(scene.image_bgr).detections for scene in scenes]
    ours, theirs = (mean_average_precision(d, scenes) for d in (found, reference))
    iou = overlaps(found, reference)
    print(
        f"\n{precision}: mAP50-95 {ours.map50_95:.4f} (onnxruntime cpu {theirs.map50_95:.4f}), mAP50 {ours.map50:.4f} "
        f"({theirs.map50:.4f}); {iou.size} boxes with a score above {SURE}: IoU mean {iou.mean():.4f}, "
        f"median {np.median(iou):.4f}, smallest {iou.min():.4f}, below 0.98: {(iou < 0.98).mean():.2%}"
    )
    assert abs(ours.map50_95 - theirs.map50_95) <= MAX_MAP_DIFFERENCE[precision]
    assert iou.mean() >= MIN_MEAN_IOU[precision]
    assert (iou < MIN_IOU).mean() <= MOST_SWAPPED[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_box_is_where_onnxruntime_has_it(precision: str, pictures: Path, scenes: list[Scene]) -> None:
    model, built_model = load_model("digits"), digits_as(built(precision, pictures))
    preprocess = Preprocessor(model.input)
    overlap: list[float] = []
    with (
        create_backend(BackendRequest.parse("onnxruntime:cpu"), model) as judge,
        create_backend(BackendRequest.parse(f"tensorrt:{precision}"), built_model) as backend,
    ):
        for scene in scenes:
            tensor, _ = preprocess(Image(scene.image_bgr, "bgr"))
            (expected,), (found,) = (opened.infer(tensor).arrays for opened in (judge, backend))
            sure = expected[0, 4:].max(axis=0) > SURE
            overlap += np.diag(pairwise_iou(corners(found[0, :4, sure]), corners(expected[0, :4, sure]))).tolist()
    print(f"\n{precision}: {len(overlap)} candidates with a score above {SURE}: smallest IoU {min(overlap):.4f}")
    assert len(overlap) > 1000
    assert min(overlap) >= MIN_IOU


def corners(cxcywh: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) centre and size to left, top, right, bottom."""
    center, half = cxcywh[:, :2], cxcywh[:, 2:] / 2
    return np.hstack([center - half, center + half])


@pytest.mark.parametrize("precision", OPTIONS)
def test_the_detect_command_runs_each_engine(precision: str, pictures: Path) -> None:
    built(precision, pictures)
    picture = next(pictures.glob("*.png"))
    done = command("detect", str(picture), "--backend", f"tensorrt:{precision}", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["backend"]["precision"] == precision
    assert answer["backend"]["device"] == "cuda:0"
    assert {"host_to_device_ms", "inference_ms", "device_to_host_ms"} <= set(answer["images"][0]["times_ms"])
    assert answer["images"][0]["detections"]


def test_auto_takes_the_fastest_that_is_accurate_enough(pictures: Path) -> None:
    for precision in OPTIONS:
        built(precision, pictures)
    done = command(
        "build-engine", "--model", "digits", "--precision=auto", f"--calibImages={pictures}", "--json", *TUNING
    )
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)["manifest"]["notes"]
    print("\n" + "\n".join(notes))
    assert sum(note.endswith(": taken") for note in notes) == 1
    assert [note.split(":")[0] for note in notes[-3:]] == ["fp32", "fp16", "int8"]
