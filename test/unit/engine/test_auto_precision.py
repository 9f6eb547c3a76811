from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from trt_perception.backends.tensorrt_runtime.manifest import EngineKey, EngineManifest, read_manifest
from trt_perception.engine import auto_precision
from trt_perception.engine.auto_precision import Measured, build_fastest, choose_precision
from trt_perception.engine.build import BuildResult
from trt_perception.engine.options import BuildOptions
from trt_perception.errors import PerceptionError
from trt_perception.model_file import InputSpec, ModelFile
from trt_perception.types import Detections, FrameResult, Image, StageTimes


def measured(fp16_drop: float, int8_drop: float) -> list[Measured]:
    return [
        Measured("fp32", 300_000, 0.99),
        Measured("fp16", 200_000, 0.99 - fp16_drop),
        Measured("int8", 100_000, 0.99 - int8_drop),
    ]


@pytest.mark.parametrize(
    ("fp16_drop", "int8_drop", "taken"),
    [(0.001, 0.01, "int8"), (0.001, 0.05, "fp16"), (0.03, 0.05, "fp32"), (0.05, 0.01, "int8"), (-0.01, 0.3, "fp16")],
)
def test_the_fastest_within_the_bound_is_taken(fp16_drop: float, int8_drop: float, taken: str) -> None:
    choice = choose_precision(measured(fp16_drop, int8_drop), 0.02)
    assert choice.precision == taken


def test_every_candidate_gets_its_reason() -> None:
    choice = choose_precision(measured(0.001, 0.05), 0.02)
    assert choice.reasons == (
        "fp32: 0.300 ms, mAP50 drop 0.0000: slower",
        "fp16: 0.200 ms, mAP50 drop 0.0010: taken",
        "int8: 0.100 ms, mAP50 drop 0.0500: loses more than 0.02",
    )


def test_without_anything_found_there_is_nothing_to_compare() -> None:
    nan = float("nan")
    choice = choose_precision([Measured("fp32", 300_000, nan), Measured("fp16", 200_000, nan)], 0.02)
    assert choice.reasons == (
        "fp32: 0.300 ms, mAP50 drop nan: taken",
        "fp16: 0.200 ms, mAP50 drop nan: FP32 finds nothing in these pictures",
    )


MANIFEST = EngineManifest(EngineKey("a" * 64, "8.6.0", "NVIDIA H200", "9.0", "fp32"), "b" * 64, 6, "m.onnx")
ONE_BOX = Detections(np.array([[10, 10, 50, 50]], np.float32), np.array([0.9], np.float32), np.array([0], np.int64))
NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((8, 8, 3), np.uint8))
    return BuildOptions(tmp_path / "m.onnx", calib_images=tmp_path, calib_count=1)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[BuildOptions]:
    """What is asked of the builder, whose engines are files that name their precision; INT8 finds nothing."""
    asked: list[BuildOptions] = []

    def build(wanted: BuildOptions, *_: Any, **__: Any) -> BuildResult:
        asked.append(wanted)
        engine = tmp_path / f"{wanted.precision}.engine"
        engine.write_text(wanted.precision)
        return BuildResult(engine, replace(MANIFEST, notes=("built",)), True, ("new",))

    def run(_: ModelFile, result: BuildResult, *__: Any) -> tuple[list[Detections], int]:
        precision = result.engine.stem
        busy_ns = {"fp32": 3_000_000, "fp16": 2_000_000, "int8": 1_000_000}[precision]
        return [NOTHING if precision == "int8" else ONE_BOX], busy_ns

    monkeypatch.setattr(auto_precision, "build_engine", build)
    monkeypatch.setattr(auto_precision, "_run", run)
    return asked


MODEL = ModelFile("m", "detect", {}, InputSpec(8, 8), "yolov8", ("zero",))


def test_all_three_are_built_into_the_cache_and_the_best_is_copied(
    options: BuildOptions, engines: list[BuildOptions], tmp_path: Path
) -> None:
    target = tmp_path / "out" / "named.engine"
    target.parent.mkdir()
    result = build_fastest(replace(options, save_engine=target), MODEL, 0.02)
    assert [(o.precision, o.fp16, o.save_engine) for o in engines] == [
        ("fp32", False, None),
        ("fp16", True, None),
        ("int8", True, None),
    ]
    assert (result.engine, target.read_text()) == (target, "fp16")
    manifest = read_manifest(target)
    assert manifest is not None and manifest.notes == (
        "built",
        "fp32: 3.000 ms, mAP50 drop 0.0000: slower",
        "fp16: 2.000 ms, mAP50 drop 0.0000: taken",
        "int8: 1.000 ms, mAP50 drop 1.0000: loses more than 0.02",
    )
    assert result.reasons[0] == "new" and result.manifest == manifest


def test_without_a_name_it_stays_in_the_cache(
    options: BuildOptions, engines: list[BuildOptions], tmp_path: Path
) -> None:
    assert build_fastest(options, MODEL, 1.0).engine == tmp_path / "int8.engine"


def test_an_engine_that_is_chosen_again_has_the_reasons_of_now(
    options: BuildOptions, engines: list[BuildOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_fastest(options, MODEL, 0.02)
    # The cache has them all now.
    monkeypatch.setattr(
        auto_precision,
        "build_engine",
        lambda wanted, *_, **__: BuildResult(
            first.engine.with_stem(wanted.precision),
            first.manifest if wanted.precision == "fp16" else MANIFEST,
            False,
            (),
        ),
    )
    assert build_fastest(options, MODEL, 0.02).manifest.notes == first.manifest.notes
    assert len(first.manifest.notes) == 4


class Opened:
    """A detector that finds one box, and what was asked for."""

    asked: ClassVar[list[Any]] = []

    @classmethod
    @contextmanager
    def open(cls, model: ModelFile, backends: str, *, settings: Any) -> Iterator[Opened]:
        cls.asked.append(backends)
        yield cls()

    def warm_up(self) -> None:
        pass

    def detect(self, picture: Image) -> FrameResult:
        self.asked.append(picture.pixels.shape)
        return FrameResult(ONE_BOX, StageTimes(1, 5, 1, 0))


def test_it_is_measured_on_the_gpu_that_it_is_built_for(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(auto_precision, "Detector", Opened)
    monkeypatch.setattr(
        auto_precision,
        "build_engine",
        lambda wanted, *_, **__: BuildResult(tmp_path / f"{wanted.precision}.engine", MANIFEST, True, ()),
    )
    build_fastest(replace(options, device=1), MODEL, 0.02)
    assert Opened.asked == ["tensorrt:cuda:1", (8, 8, 3)] * 3
    (tmp_path / "picture.png").write_bytes(b"none")
    with pytest.raises(PerceptionError, match=r"picture\.png cannot be read as a picture"):
        build_fastest(options, MODEL, 0.02)


def test_pictures_are_needed(options: BuildOptions, engines: list[BuildOptions]) -> None:
    with pytest.raises(PerceptionError, match="--calibImages=FOLDER of what the camera sees"):
        build_fastest(replace(options, calib_images=None), MODEL, 0.02)
    assert engines == []
