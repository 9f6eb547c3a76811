"""What is built, what is taken from the cache and why, with TensorRT's own work replaced by a few bytes."""

from __future__ import annotations

import argparse
import hashlib
import shlex
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from test.unit.test_models import write_graph
from trt_perception.artifact_metadata import read_metadata
from trt_perception.atomic_file import write_atomically
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.tensorrt_runtime.cuda_session import GpuIdentity
from trt_perception.backends.tensorrt_runtime.engine_cache import CACHE_VARIABLE, build_command
from trt_perception.backends.tensorrt_runtime.manifest import PREVIEW, manifest_path, read_manifest
from trt_perception.cli.build_engine import _options as parsed_options
from trt_perception.cli.build_engine import add_parser
from trt_perception.engine import build, prepare
from trt_perception.engine.build import build_engine
from trt_perception.engine.options import BuildOptions, restored_options
from trt_perception.engine.prepare import ensure_engine
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.errors import BackendUnavailableError, PerceptionError
from trt_perception.model_file import Artifact, InputSpec, ModelFile

pytest.importorskip("onnx", reason="the onnx package makes the test's models")
from test.unit.engine.onnx_models import conv_model

GPU = GpuIdentity("NVIDIA H200", "9.0", 2**37)


class Machine:
    """A GPU machine whose builder returns numbered engines; `version` and `gpu` can be exchanged."""

    def __init__(self) -> None:
        self.trt = fake_tensorrt((8, 6, 0))
        self.gpu = GPU
        self.built: list[BuildOptions] = []
        self.fail: Exception | None = None

    def native(self, _: Any, options: BuildOptions, *__: Any) -> tuple[bytes, list[str]]:
        if self.fail is not None:
            raise self.fail
        if options.calib is not None and not options.calib.is_file():
            options.calib.write_bytes(b"ranges")
        self.built.append(options)
        return f"engine {len(self.built)}".encode() * 10, ["a note"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for module in (build, prepare):
        monkeypatch.setattr(module, "load_tensorrt", lambda: machine.trt)
        monkeypatch.setattr(module, "gpu_identity", lambda _: machine.gpu)
    monkeypatch.setattr(build, "_native", machine.native)
    return machine


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(conv_model())
    return BuildOptions(onnx, fp16=True)


def test_what_is_built_once_is_found_again(machine: Machine, options: BuildOptions, tmp_path: Path) -> None:
    first = build_engine(options)
    assert first.built and first.reasons == ("there is no engine for this model yet",)
    assert first.engine.parent == tmp_path / "cache" and first.engine.name.startswith("model-fp16-")
    manifest = read_manifest(first.engine)
    assert manifest == first.manifest
    assert manifest is not None and manifest.problem(first.engine) is None and manifest.notes == ("a note",)
    again = build_engine(options)
    assert not again.built and again.engine == first.engine
    assert len(machine.built) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m, o: replace(o, fp16=False), "precision: built with fp16, wanted fp32"),
        (lambda m, o: replace(o, optimization_level=5), "builderOptimizationLevel: built with default, wanted 5"),
        (lambda m, o: setattr(m, "trt", fake_tensorrt((10, 3, 0))), "tensorrt_version: built with 8.6.0, wanted 10.3"),
        (lambda m, o: setattr(m, "gpu", replace(GPU, name="Orin")), "gpu_name: built with NVIDIA H200, wanted Orin"),
        (lambda m, o: o.onnx.write_bytes(conv_model(32)) and None, "onnx_sha256: built with"),
        (lambda m, o: replace(o, force=True), "--force was given"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_change_builds_again_and_says_why(
    machine: Machine,
    options: BuildOptions,
    tmp_path: Path,
    change: Callable[[Machine, BuildOptions], BuildOptions | None],
    reason: str,
    named: bool,
) -> None:
    if named:
        options = replace(options, save_engine=tmp_path / "named.engine")
    build_engine(options)
    result = build_engine(change(machine, options) or options)
    assert result.built
    assert any(reason in given for given in result.reasons)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda e: e.write_bytes(e.read_bytes()[:-1]), "truncated"),
        (lambda e: e.write_bytes(b"E" + e.read_bytes()[1:]), "was changed"),
        (lambda e: manifest_path(e).unlink(), "has no manifest"),
        (lambda e: manifest_path(e).write_text("{"), "no engine manifest"),
    ],
)
def test_a_damaged_engine_is_built_again(
    machine: Machine, options: BuildOptions, damage: Callable[[Path], object], reason: str
) -> None:
    engine = build_engine(options).engine
    damage(engine)
    result = build_engine(options)
    assert result.built and reason in result.reasons[0]
    assert not build_engine(options).built


def test_a_failed_build_leaves_the_old_engine(machine: Machine, options: BuildOptions) -> None:
    old = build_engine(options)
    content = old.engine.read_bytes()
    machine.fail = PerceptionError("no")
    with pytest.raises(PerceptionError, match="no"):
        build_engine(replace(options, force=True))
    assert old.engine.read_bytes() == content
    assert not build_engine(options).built


def test_a_crash_between_engine_and_manifest_is_noticed(
    machine: Machine, options: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_engine(options)

    def stop_at_the_manifest(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr(build, "write_atomically", stop_at_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        build_engine(replace(options, force=True))
    monkeypatch.undo()
    manifest = read_manifest(next(options.onnx.parent.glob("cache/*.engine")))
    assert manifest is not None
    assert manifest.problem(next(options.onnx.parent.glob("cache/*.engine"))) is not None


def test_the_lean_runtime_cannot_build(machine: Machine, options: BuildOptions) -> None:
    machine.trt = replace(machine.trt, flavour="lean")
    with pytest.raises(BackendUnavailableError, match="needs the full one"):
        build_engine(options)


def test_missing_files_and_preprocessing_are_said(machine: Machine, options: BuildOptions, tmp_path: Path) -> None:
    with pytest.raises(PerceptionError, match="does not exist"):
        build_engine(replace(options, onnx=tmp_path / "absent.onnx"))
    with pytest.raises(PerceptionError, match="is no file"):
        build_engine(replace(options, onnx=tmp_path))
    with pytest.raises(PerceptionError, match="--model with its model file"):
        build_engine(replace(options, calib_images=tmp_path))


def test_an_engine_tells_the_metadata_of_its_onnx(machine: Machine, options: BuildOptions) -> None:
    import onnx

    model = onnx.load_from_string(options.onnx.read_bytes())
    model.metadata_props.add(key="task", value="detect")
    options.onnx.write_bytes(model.SerializeToString())
    assert read_metadata(build_engine(options).engine) == {"task": "detect"}


@pytest.fixture
def free(tmp_path: Path) -> BuildOptions:
    """Of an ONNX whose sizes are free."""
    onnx = tmp_path / "free.onnx"
    write_graph(onnx, ["batch", 3, "height", "width"], {})
    return BuildOptions(onnx, fp16=True)


def test_model_files_of_other_sizes_may_share_an_onnx(machine: Machine, free: BuildOptions) -> None:
    small, large = InputSpec(16, 16), InputSpec(32, 16)
    first, second = build_engine(free, small), build_engine(free, large)
    assert second.built and first.engine != second.engine
    assert "shapes.images: built with 1x3x16x16/1x3x16x16/1x3x16x16, wanted 1x3x16x32" in second.reasons[0]
    assert not build_engine(free, small).built and not build_engine(free, large).built
    request = BackendRequest.parse("tensorrt:fp16")
    for spec, result in ((small, first), (large, second)):
        model = ModelFile("test", "detect", {"onnx": Artifact(free.onnx)}, spec, "yolov8", ())
        assert ensure_engine(model, request) == result.engine
    with pytest.raises(PerceptionError, match="free sizes"):
        build_engine(free)


@pytest.mark.parametrize(("version", "shares"), [((8, 5, 3), False), ((8, 6, 0), True), ((10, 3, 0), True)])
def test_the_manifest_says_whether_contexts_share_the_profile(
    machine: Machine, free: BuildOptions, options: BuildOptions, version: tuple[int, ...], shares: bool
) -> None:
    machine.trt = fake_tensorrt(version)
    key = build_engine(free, InputSpec(32, 32)).manifest.key
    assert key.shares_profile == shares
    # It stands in the key only where it had to be asked for, and the command that builds it again has no such option.
    assert (PREVIEW in key.options) == (version[:2] == (8, 6))
    assert PREVIEW not in build_engine(options).manifest.key.options
    assert PREVIEW not in build_command(free.onnx, key, old=key)


def test_another_shape_for_a_fixed_size_is_refused(machine: Machine, options: BuildOptions) -> None:
    wished = replace(options, shapes=ShapeOptions(largest={"images": (4, 3, 16, 16)}))
    with pytest.raises(PerceptionError, match="4x3x16x16 cannot be had, the network has the fixed shape 1x3x16x16"):
        build_engine(wished)
    same = replace(options, shapes=ShapeOptions(best={"images": (1, 3, 16, 16)}))
    assert build_engine(same).engine == build_engine(options).engine


def test_int8_depends_on_how_pictures_are_prepared(machine: Machine, options: BuildOptions, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"a picture")
    wished = replace(options, int8=True, calib_images=tmp_path)
    assert build_engine(wished, InputSpec(16, 16)).built
    result = build_engine(wished, InputSpec(16, 16, color_order="bgr"))
    assert result.built and "options.calibration" in result.reasons[0]
    (tmp_path / "0.png").unlink()
    (tmp_path / "0.png").symlink_to(tmp_path / "absent")
    with pytest.raises(PerceptionError, match="has no pictures"):
        build_engine(wished, InputSpec(16, 16))


def test_a_calibration_cache_is_what_counts_once_it_is_there(
    machine: Machine, options: BuildOptions, tmp_path: Path
) -> None:
    (tmp_path / "0.png").write_bytes(b"a picture")
    wished = replace(options, int8=True, calib_images=tmp_path, calib=tmp_path / "int8.cache")
    spec = InputSpec(16, 16)
    assert build_engine(wished, spec).built
    assert not build_engine(wished, spec).built
    assert not build_engine(replace(wished, calib_images=None), spec).built
    (tmp_path / "int8.cache").write_bytes(b"other ranges")
    assert build_engine(wished, spec).built
    (tmp_path / "int8.cache").unlink()
    assert build_engine(wished, spec).built


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version_compatible": True}, "--versionCompatible cannot be had with TensorRT 8.5.3"),
        ({"version_compatible": True, "exclude_lean_runtime": True}, "--versionCompatible cannot be had"),
        ({"hardware_compatibility_level": "ampere+"}, r"--hardwareCompatibilityLevel=ampere\+ cannot be had"),
        ({"optimization_level": 3}, "--builderOptimizationLevel cannot be had"),
        ({"tactic_sources": "-CUDN"}, "--tacticSources: TensorRT 8.5.3 has no CUDN; it has CUBLAS, CUDNN"),
    ],
)
def test_what_this_tensorrt_lacks_is_said_before_pictures_are_read(
    machine: Machine, options: BuildOptions, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    machine.trt = fake_tensorrt((8, 5, 3), TacticSource=IntEnum("TacticSource", "CUBLAS CUDNN"))
    with pytest.raises(PerceptionError, match=message):
        build_engine(replace(options, int8=True, calib_images=tmp_path / "absent", **change), InputSpec(16, 16))


def model_of(options: BuildOptions, engine: Path | None = None) -> ModelFile:
    artifacts = {"onnx": Artifact(options.onnx)} | ({"engine": Artifact(engine)} if engine else {})
    return ModelFile("test", "detect", artifacts, InputSpec(16, 16), "yolov8", ())


def test_ensure_builds_only_what_is_missing(machine: Machine, options: BuildOptions) -> None:
    request = BackendRequest.parse("tensorrt:fp16")
    engine = ensure_engine(model_of(options), request)
    assert engine is not None and engine.is_file()
    assert ensure_engine(model_of(options), request) == engine
    assert len(machine.built) == 1
    assert ensure_engine(model_of(options), BackendRequest.parse("onnxruntime:cpu")) is None


def test_ensure_takes_an_engine_that_was_built_with_other_options(machine: Machine, options: BuildOptions) -> None:
    tuned = build_engine(replace(options, optimization_level=5)).engine
    assert ensure_engine(model_of(options), BackendRequest.parse("tensorrt:fp16")) == tuned


def test_ensure_mends_an_engine_that_the_model_names(machine: Machine, options: BuildOptions, tmp_path: Path) -> None:
    named = tmp_path / "named.engine"
    model, request = model_of(options, named), BackendRequest.parse("tensorrt:fp16")
    assert ensure_engine(model, request) == named
    named.write_bytes(b"short")
    assert ensure_engine(model, request) == named
    assert hashlib.sha256(named.read_bytes()).hexdigest() == read_manifest(named).engine_sha256  # type: ignore[union-attr]
    assert len(machine.built) == 2
    ready = ModelFile("t", "detect", {"engine": Artifact(named)}, InputSpec(16, 16), "yolov8", ())
    assert ensure_engine(ready, request) is None


def test_ensure_keeps_the_options_of_an_engine_that_the_model_names(
    machine: Machine, free: BuildOptions, tmp_path: Path
) -> None:
    named = tmp_path / "named.engine"
    shapes = ShapeOptions(largest={"images": (8, 3, 16, 16)}, smallest={"images": (1, 3, 16, 16)})
    tuned = replace(
        free,
        save_engine=named,
        fp16=False,
        no_tf32=True,
        shapes=shapes,
        memory_pools={"workspace": 2**20},
        optimization_level=5,
        layer_precisions={"a:b": "fp32"},
        tactic_sources="-CUDNN",
    )
    machine.trt = fake_tensorrt(
        (8, 6, 0),
        TacticSource=IntEnum("TacticSource", "CUBLAS CUDNN"),
        MemoryPoolType=IntEnum("MemoryPoolType", "WORKSPACE"),
    )
    built = build_engine(tuned, InputSpec(16, 16)).manifest.key
    model = model_of(tuned, named)
    # Without a precision asked for, the engine's own is meant.
    assert ensure_engine(model, BackendRequest.parse("tensorrt")) == named and len(machine.built) == 1
    named.write_bytes(b"short")
    ensure_engine(model, BackendRequest.parse("tensorrt"))
    again = read_manifest(named)
    assert len(machine.built) == 2 and again is not None and again.key == built


def test_the_command_says_all_that_an_engine_was_built_with(machine: Machine, free: BuildOptions) -> None:
    shapes = ShapeOptions({"images": (1, 3, 16, 16)}, {"images": (4, 3, 16, 16)}, {"images": (8, 3, 16, 16)})
    wanted = replace(
        free,
        no_tf32=True,
        shapes=shapes,
        memory_pools={"workspace": 2**20},
        optimization_level=5,
        layer_precisions={"a:b": "fp32"},
        fp32_boxes=False,
        version_compatible=True,
        exclude_lean_runtime=True,
        hardware_compatibility_level="ampere+",
    )
    machine.trt = fake_tensorrt(
        (8, 6, 0),
        MemoryPoolType=IntEnum("MemoryPoolType", "WORKSPACE"),
        HardwareCompatibilityLevel=IntEnum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS"),
    )
    key = build_engine(wanted).manifest.key
    words = shlex.split(build_command(free.onnx, key, model="my model.yaml", old=key))
    assert words[:4] == ["trt-perception", "build-engine", "--model", "my model.yaml"]
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parsed = parsed_options(parser.parse_args(words[1:]), free.onnx)
    assert parsed == wanted == restored_options(key, free.onnx)


def test_ensure_replaces_no_engine_of_another_precision(
    machine: Machine, options: BuildOptions, tmp_path: Path
) -> None:
    named = tmp_path / "named.engine"
    build_engine(replace(options, save_engine=named))
    content = named.read_bytes()
    for version in ((8, 6, 0), (8, 6, 1)):
        machine.trt = fake_tensorrt(version)
        with pytest.raises(PerceptionError, match=r"is an fp16 engine, which is not replaced"):
            ensure_engine(model_of(options, named), BackendRequest.parse("tensorrt:fp32"))
    manifest_path(named).write_text("{")
    with pytest.raises(PerceptionError, match=r"whose manifest is damaged, which is not replaced"):
        ensure_engine(model_of(options, named), BackendRequest.parse("tensorrt"))
    assert named.read_bytes() == content and len(machine.built) == 1


def test_ensure_builds_an_engine_for_the_models_pictures(machine: Machine, free: BuildOptions, tmp_path: Path) -> None:
    named = tmp_path / "named.engine"
    build_engine(replace(free, save_engine=named), InputSpec(32, 32))
    assert ensure_engine(model_of(free, named), BackendRequest.parse("tensorrt")) == named
    again = read_manifest(named)
    assert again is not None and again.key.shapes == {"images": "1x3x16x16/1x3x16x16/1x3x16x16"}
    assert len(machine.built) == 2


def test_an_engine_that_brings_no_runtime_is_preferred(machine: Machine, options: BuildOptions) -> None:
    plain = build_engine(options).engine
    portable = build_engine(replace(options, version_compatible=True)).engine
    model, request = model_of(options), BackendRequest.parse("tensorrt:fp16")
    assert ensure_engine(model, request) == plain
    plain.unlink()
    assert ensure_engine(model, request) == portable


def test_ensure_replaces_no_engine_with_a_hash(machine: Machine, options: BuildOptions, tmp_path: Path) -> None:
    named = tmp_path / "named.engine"
    named.write_bytes(b"cut")
    manifest_path(named).write_text("{")
    artifacts = {"onnx": Artifact(options.onnx), "engine": Artifact(named, "f" * 64)}
    model = ModelFile("test", "detect", artifacts, InputSpec(16, 16), "yolov8", ())
    with pytest.raises(PerceptionError, match=r"names its sha256.*put that file back"):
        ensure_engine(model, BackendRequest.parse("tensorrt"))
    assert named.read_bytes() == b"cut" and machine.built == []


def test_ensure_never_builds_int8(machine: Machine, options: BuildOptions) -> None:
    with pytest.raises(PerceptionError, match=r"--int8 --fp16 --calibImages FOLDER`.* INT8 needs pictures"):
        ensure_engine(model_of(options), BackendRequest.parse("tensorrt:int8"))
    assert machine.built == []
