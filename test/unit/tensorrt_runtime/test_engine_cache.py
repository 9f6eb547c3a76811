from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from test.unit.test_models import write_graph
from trt_perception.backends.tensorrt_runtime.cuda_session import GpuIdentity
from trt_perception.backends.tensorrt_runtime.engine_cache import (
    CACHE_VARIABLE,
    EngineMissingError,
    build_command,
    cache_directory,
    cached_engines,
    find_engine,
    key_here,
    named_engine_problem,
    runtime_differences,
)
from trt_perception.backends.tensorrt_runtime.manifest import EngineKey, EngineManifest, manifest_path

HERE = EngineKey("a" * 64, "8.6.0", "NVIDIA H200", "9.0", "fp16")
ONNX = Path("model.onnx")
COMMAND = "trt-perception build-engine --onnx model.onnx --fp16"


def put(folder: Path, name: str, key: EngineKey, built_at: str = "2026-01-01") -> Path:
    engine = folder / f"{name}.engine"
    content = name.encode() * 50
    engine.write_bytes(content)
    written = EngineManifest(key, hashlib.sha256(content).hexdigest(), len(content), onnx=str(ONNX), built_at=built_at)
    manifest_path(engine).write_text(written.to_json())
    return engine


def test_the_folder_comes_from_the_setting_then_the_variable_then_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "trt_perception" / "engines"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    assert cache_directory() == tmp_path / "mine"
    assert cache_directory("/given") == Path("/given")


def test_the_newest_fitting_engine_is_found(tmp_path: Path) -> None:
    put(tmp_path, "old", HERE, "2026-01-01")
    new = put(tmp_path, "new", replace(HERE, options={"memPoolSize": "workspace:1B"}), "2026-02-01")
    put(tmp_path, "other", replace(HERE, precision="int8"), "2026-03-01")
    assert find_engine(ONNX, HERE, tmp_path, COMMAND).path == new


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"onnx_sha256": "b" * 64}, "onnx_sha256: built with bbb"),
        ({"tensorrt_version": "8.5.3"}, "tensorrt_version: built with 8.5.3, wanted 8.6.0"),
        ({"gpu_name": "Orin"}, "gpu_name: built with Orin"),
        ({"compute_capability": "8.7"}, "compute_capability: built with 8.7"),
        ({"precision": "fp32"}, "precision: built with fp32, wanted fp16"),
    ],
)
def test_a_miss_says_what_differs_and_how_to_build(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    put(tmp_path, "near", replace(HERE, **change))
    with pytest.raises(EngineMissingError) as caught:
        find_engine(ONNX, HERE, tmp_path, COMMAND)
    assert words in str(caught.value)
    assert f"build it with `{COMMAND}` (or set build_engine: true for the node)" in str(caught.value)


def test_an_empty_or_absent_folder_is_a_miss(tmp_path: Path) -> None:
    with pytest.raises(EngineMissingError, match="has none for it"):
        find_engine(ONNX, HERE, tmp_path / "absent", COMMAND)


def test_a_damaged_engine_is_a_miss_with_its_reason(tmp_path: Path) -> None:
    engine = put(tmp_path, "cut", HERE)
    engine.write_bytes(engine.read_bytes()[:10])
    with pytest.raises(EngineMissingError, match="truncated: 10 bytes"):
        find_engine(ONNX, HERE, tmp_path, COMMAND)


def test_unreadable_manifests_and_orphans_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = put(tmp_path, "good", HERE)
    manifest_path(put(tmp_path, "bad", HERE)).write_text("{")
    put(tmp_path, "orphan", HERE).unlink()
    assert [found.path for found in cached_engines(tmp_path)] == [good]
    assert "bad.engine.json" in caplog.text


def test_a_version_compatible_engine_runs_on_newer_versions_only() -> None:
    built = replace(HERE, options={"versionCompatible": "true"})
    assert runtime_differences(built, replace(HERE, tensorrt_version="11.4.0.106")) == []
    assert runtime_differences(built, replace(HERE, tensorrt_version="8.5.3")) != []
    assert runtime_differences(HERE, replace(HERE, tensorrt_version="11.4.0.106")) != []


def test_a_hardware_compatible_engine_runs_on_other_gpus() -> None:
    ampere = replace(HERE, options={"hardwareCompatibilityLevel": "ampere+"})
    assert runtime_differences(ampere, replace(HERE, gpu_name="RTX A5000", compute_capability="8.6")) == []
    assert runtime_differences(ampere, replace(HERE, gpu_name="Xavier", compute_capability="7.2")) != []
    same = replace(HERE, compute_capability="8.6", options={"hardwareCompatibilityLevel": "sameComputeCapability"})
    assert runtime_differences(same, replace(HERE, gpu_name="RTX A5000", compute_capability="8.6")) == []
    assert runtime_differences(same, HERE) != []


@pytest.mark.parametrize(
    ("precision", "given", "command"),
    [
        ("fp32", {}, "--onnx m.onnx"),
        ("fp16", {"cache": "/my engines", "device": 1}, "--onnx m.onnx --fp16 --cache '/my engines' --device 1"),
        ("fp16", {"save": Path("a b.engine"), "cache": "/c"}, "--onnx m.onnx --fp16 --saveEngine 'a b.engine'"),
        ("fp16", {"model": "my.yaml"}, "--model my.yaml --fp16"),
        ("int8", {}, "--model MODEL --int8 --fp16 --calibImages FOLDER"),
        ("int8", {"model": "my.yaml"}, "--model my.yaml --int8 --fp16 --calibImages FOLDER"),
    ],
)
def test_the_command_builds_just_what_is_missing(precision: str, given: dict[str, Any], command: str) -> None:
    wanted = replace(HERE, precision=precision)
    assert build_command(Path("m.onnx"), wanted, **given) == f"trt-perception build-engine {command}"


def test_a_network_of_free_size_needs_its_model_file(tmp_path: Path) -> None:
    fixed, free = tmp_path / "fixed.onnx", tmp_path / "free.onnx"
    write_graph(fixed, ["batch", 3, 8, 8], {})
    write_graph(free, [1, 3, "h", "w"], {})
    assert f"--onnx {fixed}" in build_command(fixed, HERE)
    assert "--model MODEL" in build_command(free, HERE)


def test_a_lean_runtime_looks_for_engines_that_it_can_run(tmp_path: Path) -> None:
    gpu = GpuIdentity("NVIDIA H200", "9.0", 2**37)
    lean = replace(fake_tensorrt((8, 6, 0)), flavour="lean")
    wanted = key_here("a" * 64, "fp16", lean, gpu)
    assert build_command(ONNX, wanted).endswith("--fp16 --versionCompatible --excludeLeanRuntime")
    fitting = put(tmp_path, "fitting", wanted, "2026-01-01")
    put(tmp_path, "newer", HERE, "2026-02-01")
    assert find_engine(ONNX, wanted, tmp_path, COMMAND).path == fitting
    fitting.unlink()
    with pytest.raises(EngineMissingError, match=r"versionCompatible: built with none.* where the full TensorRT is"):
        find_engine(ONNX, wanted, tmp_path, COMMAND)


def test_an_engine_for_other_pictures_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "strange", replace(HERE, shapes={"images": "many"}), "2026-03-01")
    put(tmp_path, "small", replace(HERE, shapes={"images": "1x3x8x8/1x3x8x8/4x3x8x8"}), "2026-02-01")
    large = put(tmp_path, "large", HERE, "2026-01-01")
    assert find_engine(ONNX, HERE, tmp_path, COMMAND, (1, 3, 16, 16)).path == large
    large.unlink()
    with pytest.raises(EngineMissingError, match=r"the model's pictures are 1x3x16x16|that no build writes"):
        find_engine(ONNX, HERE, tmp_path, COMMAND, (1, 3, 16, 16))


@pytest.mark.parametrize(
    ("shapes", "takes"),
    [
        ("1x3x8x8/1x3x8x8/1x3x8x8", True),
        ("-/-/4x3x8x8", True),
        ("4x3x8x8/4x3x8x8/4x3x8x8", True),  # a part of the batch is filled
        ("1x3x4x4/1x3x8x8/1x3x16x16", True),
        ("1x3x8x8/-/-", True),
        ("1x3x4x4/1x3x4x4/1x3x7x16", False),
        ("-/1x1x8x8/-", False),
        ("-/8x8/-", True),  # of another input
    ],
)
def test_the_key_tells_which_pictures_an_engine_takes(shapes: str, takes: bool) -> None:
    assert (replace(HERE, shapes={"images": shapes}).refuses((1, 3, 8, 8)) is None) == takes


def test_an_engine_that_a_model_names_is_checked(tmp_path: Path) -> None:
    engine = put(tmp_path, "named", HERE)
    assert named_engine_problem(engine, HERE) is None
    assert "does not fit" in str(named_engine_problem(engine, replace(HERE, tensorrt_version="10.1")))
    engine.write_bytes(b"short")
    assert "truncated" in str(named_engine_problem(engine, HERE))
    engine.unlink()
    assert "does not exist" in str(named_engine_problem(engine, HERE))
    bare = tmp_path / "bare.engine"
    bare.write_bytes(b"the user's own")
    assert named_engine_problem(bare, HERE) is None
