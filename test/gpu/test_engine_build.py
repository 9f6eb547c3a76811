"""Building, caching and refusing engines with a real TensorRT."""

from __future__ import annotations

import json
import logging
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from test.gpu.conftest import TACTICS, open_backend
from test.gpu.networks import SIDE, activations, reference, relative_error, write_network, write_suppressing_network
from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.backends.tensorrt_runtime.manifest import manifest_path, read_manifest
from trt_perception.engine.build import BuildResult, build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.errors import BackendError, PerceptionError
from trt_perception.model_file import InputSpec
from trt_perception.types import Float32Array

SPEC = InputSpec(SIDE, SIDE)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(11)
    for index in range(24):
        small = rng.integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index:02d}.png"), cv2.resize(small, (SIDE, SIDE)))
    return folder


def picture_batches(folder: Path) -> Float32Array:
    """All pictures as the network takes them."""
    pixels = np.stack([np.asarray(cv2.imread(str(path)), np.float32)[:, :, ::-1] for path in sorted(folder.iterdir())])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) / 255, np.float32)


def test_a_second_build_finds_the_first(small_fp16: BuildResult, small_onnx: Path) -> None:
    again = build_engine(BuildOptions(onnx=small_onnx, fp16=True, tactic_sources=TACTICS))
    assert not again.built
    assert again.engine == small_fp16.engine


def test_a_changed_model_is_built_again_and_the_reason_is_given(tmp_path: Path, small_onnx: Path) -> None:
    target = tmp_path / "model.engine"
    options = BuildOptions(onnx=small_onnx, save_engine=target, tactic_sources=TACTICS)
    assert build_engine(options).reasons == ("there is no engine for this model yet",)
    changed = build_engine(replace(options, fp16=True))
    assert changed.built
    assert any(reason.startswith("precision: built with fp32, wanted fp16") for reason in changed.reasons)


def test_a_tampered_engine_is_refused_and_built_again(tmp_path: Path, small_onnx: Path) -> None:
    target = tmp_path / "model.engine"
    options = BuildOptions(onnx=small_onnx, save_engine=target, tactic_sources=TACTICS)
    build_engine(options)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 0xFF
    target.write_bytes(content)
    with pytest.raises(BackendError, match=r"was changed after it was built.*build-engine"):
        open_backend(target)
    again = build_engine(options)
    assert again.built and "was changed" in again.reasons[0]
    open_backend(target).close()


def test_a_truncated_engine_is_refused(tmp_path: Path, small_fp16: BuildResult) -> None:
    target = tmp_path / "short.engine"
    target.write_bytes(small_fp16.engine.read_bytes()[:-1000])
    manifest_path(target).write_bytes(manifest_path(small_fp16.engine).read_bytes())
    with pytest.raises(BackendError, match=r"truncated.*build it again"):
        open_backend(target)


def test_garbage_without_a_manifest_is_refused_by_tensorrt(tmp_path: Path) -> None:
    target = tmp_path / "garbage.engine"
    target.write_bytes(b"this is no engine at all" * 1000)
    with pytest.raises(BackendError, match=r"no TensorRT engine|another TensorRT version"):
        open_backend(target)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("tensorrt_version", "8.4.3", "tensorrt_version: built with 8.4.3"),
        ("compute_capability", "7.2", "compute_capability: built with 7.2"),
        ("gpu_name", "Xavier", "gpu_name: built with Xavier"),
    ],
)
def test_an_engine_from_elsewhere_is_refused_before_tensorrt_sees_it(
    tmp_path: Path, small_fp16: BuildResult, part: str, value: str, message: str
) -> None:
    target = tmp_path / "foreign.engine"
    target.write_bytes(small_fp16.engine.read_bytes())
    values = json.loads(manifest_path(small_fp16.engine).read_text())
    values["key"][part] = value
    manifest_path(target).write_text(json.dumps(values))
    with pytest.raises(BackendError, match=message):
        open_backend(target)


def test_an_engine_of_another_precision_is_refused(small_fp32: BuildResult) -> None:
    with pytest.raises(BackendError, match="precision: built with fp32, wanted int8"):
        open_backend(small_fp32.engine, "tensorrt:int8")


def test_a_missing_engine_names_the_command(tmp_path: Path) -> None:
    onnx = write_network(tmp_path / "never_built.onnx", seed=2)
    with pytest.raises(BackendError, match=r"trt-perception build-engine --onnx .*never_built.onnx --fp16"):
        open_backend(onnx, "tensorrt:fp16")


def test_a_bare_engine_and_one_with_metadata_load(
    tmp_path: Path, small_fp16: BuildResult, small_onnx: Path, batch: Float32Array
) -> None:
    plan = small_fp16.engine.read_bytes()
    bare = tmp_path / "bare.engine"
    bare.write_bytes(plan)
    with open_backend(bare) as backend:
        assert "no manifest" in backend.info.notes[0]
    header = json.dumps({"names": {"0": "one"}, "imgsz": [SIDE, SIDE], "task": "detect"}).encode()
    named = tmp_path / "named.engine"
    named.write_bytes(len(header).to_bytes(4, "little") + header + plan)
    with open_backend(named) as backend:
        assert backend.info.metadata["task"] == "detect"
        assert relative_error(backend.infer(batch).arrays[0], reference(small_onnx, batch)) < 5e-3


def test_every_unsupported_operator_is_listed(tmp_path: Path) -> None:
    onnx = write_network(tmp_path / "odd.onnx", extra=("Det", "StringNormalizer", "Det"))
    with pytest.raises(PerceptionError) as caught:
        build_engine(BuildOptions(onnx=onnx))
    for name in ("det_0 (Det)", "stringnormalizer_1 (StringNormalizer)", "det_2 (Det)", "opset", "onnxsim", "plugin"):
        assert name in str(caught.value)


def test_options_reach_the_builder(tmp_path: Path, small_onnx: Path) -> None:
    timings = tmp_path / "timings.cache"
    options = BuildOptions(
        onnx=small_onnx,
        save_engine=tmp_path / "tuned.engine",
        fp16=True,
        memory_pools={"workspace": 64 * 2**20},
        timing_cache_file=timings,
        optimization_level=1,
        layer_precisions={"conv0": "fp32"},
        tactic_sources=TACTICS,
    )
    build_engine(options)
    assert timings.stat().st_size > 0
    with pytest.raises(PerceptionError, match="no layer nothing"):
        build_engine(replace(options, layer_precisions={"nothing": "fp32"}, force=True))
    with pytest.raises(PerceptionError, match="network's inputs are images"):
        shapes = replace(options.shapes, best={"mask": (1, 1)})
        build_engine(replace(options, shapes=shapes, force=True))


# Left to itself TensorRT takes FP32 where that is faster, which says nothing of FP16.
HALF = {f"conv{index}": "fp16" for index in range(3)}


def test_half_precision_is_what_layers_are_told(
    tmp_path: Path, small_onnx: Path, batch: Float32Array, trt: TensorRt
) -> None:
    if trt.dialect.layer_precision_flag is None:
        pytest.skip(f"{trt} has no precisions of layers: its network is strongly typed")
    options = BuildOptions(
        onnx=small_onnx,
        save_engine=tmp_path / "half.engine",
        fp16=True,
        no_tf32=True,
        layer_precisions=HALF,
        tactic_sources=TACTICS,
    )
    with open_backend(build_engine(options).engine, "tensorrt:fp16") as backend:
        error = relative_error(backend.infer(batch).arrays[0], reference(small_onnx, batch))
    assert 1e-5 < error < 5e-3


def pixel_error(options: BuildOptions, batch: Float32Array) -> float:
    with open_backend(build_engine(options).engine) as backend:
        return float(np.abs(backend.infer(batch).arrays[0] - reference(options.onnx, batch)).max())


def test_boxes_are_computed_in_fp32(tmp_path: Path, batch: Float32Array, trt: TensorRt) -> None:
    onnx = write_network(tmp_path / "pixels.onnx", pixels=True)
    options = BuildOptions(
        onnx=onnx, save_engine=tmp_path / "pixels.engine", fp16=True, no_tf32=True, tactic_sources=TACTICS
    )
    if trt.dialect.layer_precision_flag is not None:
        options = replace(options, layer_precisions=HALF)
    assert 0 < pixel_error(options, batch) < 0.05
    assert "FP32 for 2 operators behind the last convolutions" in build_engine(options).manifest.notes


def test_boxes_in_half_precision_are_a_quarter_of_a_pixel_apart(
    tmp_path: Path, batch: Float32Array, trt: TensorRt
) -> None:
    if trt.dialect.layer_precision_flag is None:
        pytest.skip(f"{trt} has no precisions of layers: its network is strongly typed")
    options = BuildOptions(
        onnx=write_network(tmp_path / "pixels.onnx", pixels=True),
        save_engine=tmp_path / "pixels.engine",
        fp16=True,
        fp32_boxes=False,
        layer_precisions=HALF | {"scale": "fp16", "shift": "fp16"},
        tactic_sources=TACTICS,
    )
    # FP16 has 300 and 300.25, and nothing between.
    assert pixel_error(options, batch) > 0.1


def calibrated_ranges(cache: Path) -> dict[str, float]:
    """Tensor → its largest value in INT8; the file has the steps between values, as big-endian hexadecimal."""
    _, *lines = cache.read_text().splitlines()
    steps = dict(line.rsplit(": ", 1) for line in lines)
    return {name: 127 * struct.unpack(">f", bytes.fromhex(step))[0] for name, step in steps.items()}


SEVERAL = ShapeOptions({"images": (1, 3, SIDE, SIDE)}, {"images": (4, 3, SIDE, SIDE)}, {"images": (8, 3, SIDE, SIDE)})
EIGHT = ShapeOptions(best={"images": (8, 3, SIDE, SIDE)})


@pytest.mark.parametrize("shapes", [ShapeOptions(), SEVERAL, EIGHT], ids=["one", "several", "eight"])
def test_int8_by_calibration(tmp_path: Path, pictures: Path, trt: TensorRt, shapes: ShapeOptions) -> None:
    if trt.dialect.int8_by != "calibrate":
        pytest.skip(f"{trt} has no calibrator")
    onnx = write_network(tmp_path / "network.onnx", dynamic=bool(shapes))
    cache = tmp_path / "int8.calib"
    options = BuildOptions(
        onnx=onnx,
        save_engine=tmp_path / "int8.engine",
        int8=True,
        calib=cache,
        calib_images=pictures,
        shapes=shapes,
        # Left to itself TensorRT takes FP32 where that is faster, which says nothing of the ranges.
        layer_precisions={f"conv{index}": "int8" for index in range(3)},
        tactic_sources=TACTICS,
    )
    build_engine(options, SPEC)
    ranges = calibrated_ranges(cache)
    for name, values in activations(onnx, picture_batches(pictures)).items():
        assert 0.7 * values.max() < ranges[name] < 1.6 * values.max(), name
    batch = np.repeat(picture_batches(pictures)[5:6], 8 if shapes else 1, axis=0)
    with open_backend(tmp_path / "int8.engine", "tensorrt:int8") as backend:
        error = relative_error(backend.infer(batch).arrays[0], reference(onnx, batch))
    assert 1e-3 < error < 0.1
    # The cache alone is enough the second time.
    alone = replace(options, calib_images=None, save_engine=tmp_path / "again.engine")
    assert build_engine(alone).built


def test_pictures_that_do_not_fit_the_network_are_refused(
    tmp_path: Path, small_onnx: Path, pictures: Path, trt: TensorRt
) -> None:
    options = BuildOptions(onnx=small_onnx, save_engine=tmp_path / "m.engine", int8=True, calib_images=pictures)
    for method in {trt.dialect.int8_by, "qdq"}:
        with pytest.raises(PerceptionError, match=rf"pictures are prepared as .*3x{SIDE}x{2 * SIDE}"):
            build_engine(replace(options, int8_method=method), InputSpec(2 * SIDE, SIDE))
    if trt.dialect.int8_by == "calibrate":
        free = write_network(tmp_path / "free.onnx", dynamic=True)
        wide = ShapeOptions(best={"images": (4, 3, SIDE, 2 * SIDE)})
        with pytest.raises(PerceptionError, match=rf"3x{SIDE}x{SIDE}.*\(4, 3, {SIDE}, {2 * SIDE}\).*--optShapes"):
            build_engine(replace(options, onnx=free, shapes=wide, int8_method="calibrate"), SPEC)


def test_operators_of_tensorrts_own_plugins_are_built(tmp_path: Path, batch: Float32Array) -> None:
    onnx, engine = write_suppressing_network(tmp_path / "nms.onnx"), tmp_path / "nms.engine"
    # In a process that has not opened an engine before, which registers the plugins as well.
    words = ["build-engine", f"--onnx={onnx}", f"--saveEngine={engine}", f"--tacticSources={TACTICS}"]
    done = subprocess.run(
        [sys.executable, "-m", "trt_perception.cli.main", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with open_backend(engine) as backend:
        count, boxes, *_ = backend.infer(batch).arrays
    assert count.shape == (1, 1) and boxes.shape == (1, 10, 4)


@pytest.mark.parametrize("shapes", [ShapeOptions(), SEVERAL, EIGHT], ids=["one", "several", "eight"])
def test_int8_by_qdq(tmp_path: Path, pictures: Path, shapes: ShapeOptions) -> None:
    onnx = write_network(tmp_path / "network.onnx", dynamic=bool(shapes))
    options = BuildOptions(
        onnx=onnx,
        save_engine=tmp_path / "qdq.engine",
        fp16=True,
        int8=True,
        calib_images=pictures,
        int8_method="qdq",
        shapes=shapes,
        tactic_sources=TACTICS,
    )
    built = build_engine(options, SPEC)
    assert "Q/DQ" in built.manifest.notes[0]
    batch = np.repeat(picture_batches(pictures)[5:6], 8 if shapes else 1, axis=0)
    with open_backend(built.engine, "tensorrt:int8") as backend:
        error = relative_error(backend.infer(batch).arrays[0], reference(onnx, batch))
    assert 1e-3 < error < 0.1


def test_int8_without_pictures_says_what_it_needs(small_onnx: Path) -> None:
    with pytest.raises(PerceptionError, match="--calibImages"):
        build_engine(BuildOptions(onnx=small_onnx, int8=True))


def test_progress_reaches_the_engine(tmp_path: Path, small_onnx: Path) -> None:
    phases: list[str] = []

    class Recorder:
        def update(self, phase: str, done: int, total: int) -> None:
            phases.append(phase)

        def finish(self) -> None:
            phases.append("finished")

    build_engine(
        BuildOptions(onnx=small_onnx, save_engine=tmp_path / "p.engine", tactic_sources=TACTICS), progress=Recorder()
    )
    assert len(set(phases)) >= 3
    assert phases[-1] == "finished"


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, small_onnx: Path) -> None:
    target = tmp_path / "model.engine"
    program = f"""
import argparse, sys
from trt_perception.cli import build_engine as command
parser = argparse.ArgumentParser()
command.add_parser(parser.add_subparsers())
args = parser.parse_args(["build-engine", "--onnx", {str(small_onnx)!r}, "--saveEngine", {str(target)!r},
    "--fp16", "--builderOptimizationLevel=5", "--tacticSources={TACTICS}"])
sys.exit(command.run(args))
"""
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if "timing kernels" in line:
            break
    start = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.wait(timeout=30)
    assert time.monotonic() - start < 5
    assert child.returncode == -signal.SIGINT
    # The lock was the kernel's and is free; its empty file goes with the next build.
    assert [path.name for path in tmp_path.iterdir()] in ([], [".model.engine.lock"])


def test_no_room_for_the_engine_tells_its_size(small_fp16: BuildResult, caplog: pytest.LogCaptureFixture) -> None:
    import pycuda.driver as cuda

    from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession

    caplog.set_level(logging.CRITICAL)
    session = CudaSession(0)
    with session.current():
        free, _ = cuda.mem_get_info()
        hog = cuda.mem_alloc(free - 16 * 2**20)
        try:
            with pytest.raises(BackendError, match=r"cannot allocate .* MiB on cuda:0 .*memory does not suffice"):
                session.buffer((64 * 2**20,), "uint8")
        finally:
            hog.free()
    session.close()
    open_backend(small_fp16.engine).close()


def test_no_visible_gpu_is_said_in_words(small_fp16: BuildResult) -> None:
    program = f"""
from pathlib import Path
from test.gpu.conftest import open_backend
from trt_perception.errors import BackendUnavailableError
try:
    open_backend(Path({str(small_fp16.engine)!r}))
except BackendUnavailableError as error:
    print(error)
"""
    import os

    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert "CUDA_ERROR_NO_DEVICE" in ended.stdout and "CUDA_VISIBLE_DEVICES" in ended.stdout


def test_a_gpu_that_is_not_there_is_refused(small_fp16: BuildResult) -> None:
    with pytest.raises(BackendError, match="there is no GPU cuda:99"):
        open_backend(small_fp16.engine, "tensorrt:cuda:99")


def test_the_manifest_tells_everything(small_fp16: BuildResult, trt: TensorRt) -> None:
    manifest = read_manifest(small_fp16.engine)
    assert manifest is not None
    assert manifest == small_fp16.manifest
    assert manifest.key.tensorrt_version == trt.version_text
    assert manifest.build_s > 0
    assert manifest.problem(small_fp16.engine) is None
