"""The short way of TorchScript and ONNX Runtime on a real GPU against the plain way of the same backend."""

from __future__ import annotations

import gc
import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.gpu.frame_checks import (
    THRESHOLDS,
    assert_alike,
    assert_flat_memory,
    assert_stage_times,
    frame,
    on_the_device,
    require_boxes,
)
from test.gpu.memory import BLOCK, left_behind
from test.gpu.networks import SIDE
from test.gpu_frame_path.networks import small_model, write_artifact
from trt_perception.backends.cuda_frames.driver import is_page_locked
from trt_perception.backends.cuda_frames.geometry import ENCODINGS
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.errors import OutputError
from trt_perception.heldout import heldout_scenes
from trt_perception.model_file import ModelFile
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import Thresholds


@pytest.fixture(scope="module", params=["torchscript", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    """One that is installed with CUDA."""
    name = str(request.param)
    # ONNX Runtime finds CUDA's libraries in torch's wheels, where it lies elsewhere.
    torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    if name == "torchscript":
        if torch is None or torch.version.cuda is None:
            pytest.skip("torch is not installed, or was built without CUDA")
    else:
        onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            pytest.skip("this onnxruntime was built without CUDA")
    return name


def opened(model: str | ModelFile, backend: str, **settings: Any) -> Detector:
    # Both ways may take different algorithms, which differ by more in TF32.
    return Detector.open(model, f"{backend}:cuda", settings={backend: {"tf32": False, **settings}})


@pytest.fixture(scope="module")
def model(backend: str, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """Of any batch."""
    return small_model(backend, write_artifact(backend, tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def fast(backend: str, model: ModelFile) -> Iterator[Detector]:
    with opened(model, backend) as detector:
        yield on_the_device(detector)


@pytest.fixture(scope="module")
def plain(backend: str, model: ModelFile) -> Iterator[Detector]:
    with opened(model, backend, device_path=False) as detector:
        assert any("switched off" in note for note in detector.info.notes)
        yield detector


def assert_plain(detector: Detector, plain: Detector, given: CameraFrame) -> None:
    expected = require_boxes(plain.detect(decode_frame(given)).detections)
    assert_alike(detector.detect(given).detections, expected)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding(fast: Detector, plain: Detector, encoding: str) -> None:
    for width, height, padding in ((160, 120, 0), (64, 64, 0), (202, 90, 12), (40, 30, 0)):
        assert_plain(fast, plain, frame(encoding, width, height, padding))


def test_larger_frames_come_and_go(fast: Detector, plain: Detector) -> None:
    for width, height in ((64, 48), (1920, 1080), (320, 240), (2560, 1440), (64, 48)):
        assert_plain(fast, plain, frame("rgb8", width, height))


def test_letterbox_in_the_corner(backend: str, model: ModelFile) -> None:
    model = replace(model, input=replace(model.input, resize="letterbox_top_left"))
    with opened(model, backend) as detector, opened(model, backend, device_path=False) as judge:
        for size in ((640, 480), (90, 202)):
            assert_plain(on_the_device(detector), judge, frame("nv12", *size))


def test_page_locked_frames(fast: Detector, plain: Detector) -> None:
    session = FrameSession(0)
    # All rows, every third row, pairs of rows, rows without a pattern, and planes.
    kinds = (("bgr8", 160, 120), ("bgr8", 192, 144), ("bgr8", 384, 288), ("yuyv", 202, 90), ("nv12", 384, 384))
    for encoding, width, height in kinds:
        ordinary = frame(encoding, width, height, padding=10)
        with session.current():
            memory = session.host_memory(ordinary.buffer.size)
            memory.array[...] = ordinary.buffer
            assert is_page_locked(memory.address) and not is_page_locked(ordinary.buffer.ctypes.data)
        locked = replace(ordinary, buffer=memory.array)
        expected = plain.detect(decode_frame(ordinary)).detections
        for given in (locked, ordinary, locked):
            assert_alike(fast.detect(given).detections, expected)
        with session.current():
            memory.close()
    session.close()


def test_thresholds_change_between_frames(fast: Detector, plain: Detector) -> None:
    given, first = frame(), fast.thresholds
    for thresholds in (*THRESHOLDS, first):
        fast.thresholds = plain.thresholds = thresholds
        expected = plain.detect(decode_frame(given)).detections
        assert (len(expected) > 0) == (thresholds.score < 0.95)
        assert_alike(fast.detect(given).detections, expected)


def test_each_stage_takes_its_time(fast: Detector, plain: Detector) -> None:
    assert_stage_times(fast, plain, least=0.0)


def test_batches(fast: Detector, plain: Detector) -> None:
    given = [frame("bgr8", 320, 240), frame("nv12", 160, 120), frame("mono8", 64, 48), frame("bgr8", 640, 360)]
    expected = [plain.detect(decode_frame(one)).detections for one in given]
    assert fast.max_batch is not None and fast.max_batch >= 4
    for order in ((0, 1, 2, 3), (2,), (3, 0), (1, 2, 3), (0,)):
        results = fast.detect_batch([given[i] for i in order])
        for result, index in zip(results, order, strict=True):
            assert_alike(result.detections, expected[index])


# An archive of TorchScript does not tell its batch.
@pytest.mark.parametrize("backend", ["onnxruntime"], indirect=True)
def test_a_batch_that_is_fixed(backend: str, plain: Detector, tmp_path: Path) -> None:
    model = small_model(backend, write_artifact(backend, tmp_path, batch=4))
    given = [frame("bgr8", 320, 240), frame("nv12", 160, 120), frame("mono8", 64, 48), frame("bgr8", 640, 360)]
    with opened(model, backend) as detector:
        assert on_the_device(detector).max_batch == 4
        for count in (4, 1, 2, 4):
            for result, one in zip(detector.detect_batch(given[:count]), given, strict=False):
                assert_alike(result.detections, plain.detect(decode_frame(one)).detections)


def test_streams(backend: str, plain: Detector, tmp_path: Path) -> None:
    model = small_model(backend, write_artifact(backend, tmp_path, batch=1))
    given = [frame("bgr8", 640, 480), frame("nv12", 160, 120), frame("mono8", 64, 48), frame("bgr8", 1280, 720)]
    with opened(model, backend, streams=4) as detector:
        assert on_the_device(detector).max_batch == 4
        for count in (4, 1, 3, 4):
            for result, one in zip(detector.detect_batch(given[:count]), given, strict=False):
                assert_alike(result.detections, plain.detect(decode_frame(one)).detections)


def test_a_flood_is_decoded_on_the_host(backend: str, model: ModelFile) -> None:
    large = replace(
        model, input=replace(model.input, width=4 * SIDE, height=4 * SIDE), thresholds=Thresholds(score=0.0)
    )
    with opened(large, backend) as detector, opened(large, backend, device_path=False) as judge:
        flood = frame("bgr8", 640, 480)
        assert_alike(on_the_device(detector).detect(flood).detections, judge.detect(decode_frame(flood)).detections)


def test_a_head_without_a_kernel_is_decoded_on_the_host(backend: str, model: ModelFile) -> None:
    with opened(replace(model, head="detr"), backend) as detector:
        assert any("decoded on the processor" in note for note in on_the_device(detector).info.notes)
        with pytest.raises(OutputError, match="detr"):
            detector.detect(frame())


def test_the_plain_way_works_beside_it(fast: Detector, plain: Detector) -> None:
    given = frame()
    expected = plain.detect(decode_frame(given)).detections
    for _ in range(3):
        fast._backend.infer(np.zeros((1, 3, SIDE, SIDE), np.float32))
        assert_alike(fast.detect(given).detections, expected)


def test_open_and_close_leave_no_device_memory_behind(backend: str, model: ModelFile) -> None:
    given = frame("bgr8", 640, 480)
    # Frozen, torch compiles kernels for a second each time.
    settings = {"freeze": False} if backend == "torchscript" else {}

    def cycles(count: int) -> None:
        for _ in range(count):
            with opened(model, backend, **settings) as detector:
                on_the_device(detector).detect_batch([given, given])
            del detector
            gc.collect()

    cycles(10)
    assert left_behind(lambda: cycles(50)) <= BLOCK


def test_device_memory_is_flat_over_many_frames(fast: Detector) -> None:
    assert_flat_memory(fast, 5000)


def test_the_demo_model(backend: str) -> None:
    with opened("digits", backend) as detector, opened("digits", backend, device_path=False) as judge:
        on_the_device(detector)
        for scene in heldout_scenes(50, 640, 480, seed=5):
            assert_alike(detector.detect(scene.image_bgr).detections, judge.detect(scene.image_bgr).detections)
