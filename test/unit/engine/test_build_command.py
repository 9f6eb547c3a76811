from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trt_perception.backends.tensorrt_runtime.manifest import EngineKey, EngineManifest
from trt_perception.backends.tensorrt_runtime.trt_logger import LOG as TENSORRT_LOG
from trt_perception.cli import build_engine as command
from trt_perception.engine.build import BuildResult
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.errors import ModelFileError

KEY = EngineKey("a" * 64, "8.6.0", "NVIDIA H200", "9.0", "fp16")
MANIFEST = EngineManifest(KEY, "b" * 64, 3 * 2**20, "model.onnx", build_s=1.5, notes=("a note",))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[BuildOptions]:
    """The options that the command hands on; nothing is built."""
    options: list[BuildOptions] = []

    def take(wanted: BuildOptions, *_: Any, **__: Any) -> BuildResult:
        options.append(wanted)
        return BuildResult(Path("model.engine"), MANIFEST, True, ("a reason",))

    monkeypatch.setattr(command, "build_engine", take)
    return options


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["build-engine", *words]))


def test_options_mean_what_they_mean_for_trtexec(given: list[BuildOptions], tmp_path: Path) -> None:
    onnx = tmp_path / "m.onnx"
    onnx.write_bytes(b"")
    words = (
        f"--onnx={onnx} --saveEngine=m.engine --fp16 --noTF32 --int8 --calib=c.cache --minShapes=i:1x3 "
        "--optShapes=i:2x3 "
        "--maxShapes=i:4x3 --memPoolSize=workspace:1024 --timingCacheFile=t.cache --builderOptimizationLevel=4 "
        "--versionCompatible --excludeLeanRuntime --hardwareCompatibilityLevel=ampere+ --layerPrecisions=a:fp32 "
        "--noFP32Boxes --tacticSources=-CUDNN --device=1 --force --int8Method=qdq"
    )
    assert run(*words.split()) == 0
    assert given == [
        BuildOptions(
            onnx=onnx,
            save_engine=Path("m.engine"),
            fp16=True,
            no_tf32=True,
            int8=True,
            calib=Path("c.cache"),
            int8_method="qdq",
            shapes=ShapeOptions({"i": (1, 3)}, {"i": (2, 3)}, {"i": (4, 3)}),
            memory_pools={"workspace": 2**30},
            timing_cache_file=Path("t.cache"),
            optimization_level=4,
            version_compatible=True,
            exclude_lean_runtime=True,
            hardware_compatibility_level="ampere+",
            layer_precisions={"a": "fp32"},
            fp32_boxes=False,
            tactic_sources="-CUDNN",
            device=1,
            force=True,
        )
    ]


def test_the_demo_model_gives_its_onnx_file(given: list[BuildOptions]) -> None:
    assert run("--model=digits", "--workspace=64") == 0
    assert given[0].onnx.name == "digits.onnx"
    assert given[0].memory_pools == {"workspace": 64 * 2**20}


def test_the_result_is_one_line_or_json(given: list[BuildOptions], capsys: pytest.CaptureFixture[str]) -> None:
    run("--model=digits")
    shown = capsys.readouterr()
    assert shown.out == "model.engine: fp16, 3.0 MiB, built in 1.5 s (TensorRT 8.6.0, NVIDIA H200)\n"
    assert "a note" in shown.err
    run("--model=digits", "--json")
    values = json.loads(capsys.readouterr().out)
    assert (values["engine"], values["built"], values["reasons"]) == ("model.engine", True, ["a reason"])
    assert values["manifest"]["key"]["precision"] == "fp16"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--onnx=a", "--model=b"),
        ("--model=digits", "--minShapes=wrong"),
        ("--model=digits", "--memPoolSize=wrong"),
        ("--model=digits", "--int8Method=wrong"),
    ],
)
def test_wrong_arguments_end_with_2(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2


def test_contradictions_end_with_2(given: list[BuildOptions], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model=digits", "--excludeLeanRuntime") == 2
    assert "--versionCompatible" in capsys.readouterr().err
    assert given == []


def test_pictures_need_a_model_that_tells_its_preprocessing(tmp_path: Path) -> None:
    onnx = tmp_path / "m.onnx"
    onnx.write_bytes(b"\x08\x08")
    with pytest.raises(ModelFileError, match="does not say enough"):
        run(f"--onnx={onnx}", "--int8", f"--calibImages={tmp_path}")


def test_verbose_shows_what_tensorrt_says(given: list[BuildOptions]) -> None:
    before = TENSORRT_LOG.level
    try:
        run("--model=digits", "--verbose")
        assert TENSORRT_LOG.level == logging.DEBUG
    finally:
        TENSORRT_LOG.setLevel(before)


def test_auto_asks_for_the_fastest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[BuildOptions, str, float]] = []

    def take(options: BuildOptions, model: Any, max_drop: float, **_: Any) -> BuildResult:
        asked.append((options, model.name, max_drop))
        return BuildResult(Path("model.engine"), replace(MANIFEST, notes=()), False, ())

    monkeypatch.setattr(command, "build_fastest", take)
    assert run("--model=digits", "--precision=auto", f"--calibImages={tmp_path}", "--maxMapDrop=0.01") == 0
    assert asked[0][0].calib_images == tmp_path and asked[0][1:] == ("digits", 0.01)
