"""TensorRT's short way of a frame against the plain way around the same engine: same pixels, same detections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.gpu.conftest import TACTICS
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
from test.gpu.networks import SIDE, write_network
from trt_perception.backends.cuda_frames.driver import is_page_locked
from trt_perception.backends.cuda_frames.geometry import ENCODINGS
from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession
from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.engine import build as build_module
from trt_perception.engine.build import BuildResult, build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.errors import OutputError
from trt_perception.heldout import heldout_scenes
from trt_perception.model_file import Artifact, InputSpec, ModelFile
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import Detections, FrameResult, Thresholds

FRAMES = 10_000
# The small network's scores and boxes mean nothing, but there are many of them.
SMALL = ModelFile(
    name="small",
    task="detect",
    artifacts={},
    input=InputSpec(SIDE, SIDE),
    head="yolov8",
    labels=tuple("0123456789"),
    thresholds=Thresholds(score=0.02),
)


def small(engine: Path) -> ModelFile:
    return replace(SMALL, artifacts={"engine": Artifact(engine)})


def opened(model: ModelFile, **settings: Any) -> Detector:
    return Detector.open(model, "tensorrt", settings={"tensorrt": settings})


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> BuildResult:
    onnx = write_network(tmp_path_factory.mktemp("onnx") / "boxes.onnx", boxes=True)
    return build_engine(BuildOptions(onnx=onnx, tactic_sources=TACTICS))


@pytest.fixture(scope="module")
def fast(boxes: BuildResult) -> Iterator[Detector]:
    with opened(small(boxes.engine)) as detector:
        yield on_the_device(detector)


@pytest.fixture(scope="module")
def plain(boxes: BuildResult) -> Iterator[Detector]:
    with opened(small(boxes.engine), device_path=False) as detector:
        assert any("switched off" in note for note in detector.info.notes)
        yield detector


@pytest.fixture(params=["shared profile", "one context"])
def free_sizes(
    request: pytest.FixtureRequest, trt: TensorRt, monkeypatch: pytest.MonkeyPatch
) -> Callable[[BuildOptions], BuildResult]:
    """Builds as this version does, and as one that knows of no shared profiles."""
    if request.param == "one context":
        other = replace(trt, dialect=replace(trt.dialect, profile_sharing="never"))
        monkeypatch.setattr(build_module, "load_tensorrt", lambda: other)

    def build(options: BuildOptions) -> BuildResult:
        built = build_engine(options, SMALL.input)
        shares = {"never": False, "asked": request.param == "shared profile", "always": True}
        assert built.manifest.key.shares_profile == shares[trt.dialect.profile_sharing]
        return built

    return build


def free_batch(folder: Path) -> BuildOptions:
    onnx = write_network(folder / "dynamic.onnx", dynamic=True, boxes=True)
    low, high = (1, 3, SIDE, SIDE), (4, 3, SIDE, SIDE)
    shapes = ShapeOptions({"images": low}, {"images": high}, {"images": high})
    return BuildOptions(onnx=onnx, shapes=shapes, tactic_sources=TACTICS)


def assert_same(found: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)


def assert_plain(result: FrameResult, plain: Detector, given: CameraFrame) -> None:
    expected = require_boxes(plain.detect(decode_frame(given)).detections)
    assert_same(result.detections, expected)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding_gives_the_plain_ways_detections(fast: Detector, plain: Detector, encoding: str) -> None:
    for width, height, padding in ((160, 120, 0), (64, 64, 0), (202, 90, 12), (40, 30, 0)):
        given = frame(encoding, width, height, padding)
        assert fast.takes(given)
        assert_plain(fast.detect(given), plain, given)


def test_an_encoding_that_the_kernels_lack_is_decoded_first(fast: Detector, plain: Detector) -> None:
    given = frame("bayer_rggb8")
    assert not fast.takes(given)
    assert_plain(fast.detect(given), plain, given)


def test_larger_frames_come_and_go(fast: Detector, plain: Detector) -> None:
    for width, height in ((64, 48), (1920, 1080), (320, 240), (2560, 1440), (64, 48)):
        given = frame("rgb8", width, height)
        assert_plain(fast.detect(given), plain, given)


def test_thresholds_change_between_frames(fast: Detector, plain: Detector) -> None:
    given = frame()
    for thresholds in (*THRESHOLDS, SMALL.thresholds):
        fast.thresholds = plain.thresholds = thresholds
        expected = plain.detect(decode_frame(given)).detections
        assert (len(expected) > 0) == (thresholds.score < 0.95)
        assert_same(fast.detect(given).detections, expected)


def test_each_stage_takes_its_time(fast: Detector, plain: Detector) -> None:
    assert_stage_times(fast, plain, least=0.4)


def test_memory_that_both_share_gives_the_same(boxes: BuildResult, plain: Detector) -> None:
    with opened(small(boxes.engine), mapped_memory="on") as detector:
        assert detector._path is not None and detector._path._shared  # type: ignore[attr-defined]
        for encoding in ("bgr8", "nv12"):
            given = frame(encoding, 640, 480)
            assert detector.takes(given)
            assert_plain(detector.detect(given), plain, given)


def test_page_locked_frames_go_up_from_where_they_lie(fast: Detector, plain: Detector) -> None:
    session = CudaSession(0)
    # All rows, every third row, pairs of rows, rows without a pattern, and planes.
    kinds = (("bgr8", 160, 120), ("bgr8", 192, 144), ("bgr8", 384, 288), ("yuyv", 202, 90), ("nv12", 384, 384))
    for encoding, width, height in kinds:
        ordinary = frame(encoding, width, height, padding=10)
        with session.current():
            memory = session.buffer(ordinary.buffer.shape, "uint8")
            memory.host[...] = ordinary.buffer
            locked = replace(ordinary, buffer=memory.host)
            assert is_page_locked(locked.buffer.ctypes.data) and not is_page_locked(ordinary.buffer.ctypes.data)
        assert_plain(fast.detect(locked), plain, ordinary)
        assert_same(fast.detect(locked).detections, fast.detect(ordinary).detections)
        with session.current():
            memory.close()
    session.close()


def test_frames_on_several_streams_keep_their_order(boxes: BuildResult, plain: Detector) -> None:
    given = [frame("bgr8", 640, 480), frame("nv12", 160, 120), frame("mono8", 64, 48), frame("bgr8", 1280, 720)]
    with opened(small(boxes.engine), streams=4) as detector:
        assert on_the_device(detector).max_batch == 4
        for count in (4, 1, 3, 4):
            results = detector.detect_batch(given[:count])
            for result, one in zip(results, given, strict=False):
                assert_plain(result, plain, one)
            assert results[0].times.total_ns > 0


def test_a_batch_gives_what_single_frames_give(
    tmp_path: Path, free_sizes: Callable[[BuildOptions], BuildResult], caplog: pytest.LogCaptureFixture
) -> None:
    dynamic = free_sizes(free_batch(tmp_path))
    shares = dynamic.manifest.key.shares_profile
    given = [frame("bgr8", 320, 240), frame("nv12", 160, 120), frame("mono8", 64, 48), frame("bgr8", 640, 360)]
    with opened(small(dynamic.engine)) as detector, opened(small(dynamic.engine), device_path=False) as judge:
        assert on_the_device(detector).max_batch == 4
        expected = [require_boxes(judge.detect(decode_frame(one)).detections) for one in given]
        slots = detector._path._slots  # type: ignore[union-attr]
        # In turns and often enough in a row to be recorded again, with the plain way on the same context in between.
        for count in (4, 1, 2, 4, *[1] * 12, 3, *[4] * 12, 1, 1):
            # Another batch may run other kernels, which round otherwise.
            for result, alike in zip(detector.detect_batch(given[:count]), expected, strict=False):
                assert_alike(result.detections, alike)
            if count == 2:
                for batch in (1, 4, 1):
                    pixels = np.full((batch, 3, SIDE, SIDE), 0.25 * batch, np.float32)
                    got, wanted = (d._backend.infer(pixels).arrays[0] for d in (detector, judge))
                    np.testing.assert_allclose(got, wanted, atol=1e-3)
        # The last two came after another batch, which made their graph stale where there is one context for all.
        assert bool(slots[1]._graphs) == shares and slots[4]._graphs
    assert ("batches share one execution context" in caplog.text) != shares


def test_several_streams_of_free_sizes_are_one_where_there_is_one_context(
    tmp_path: Path, free_sizes: Callable[[BuildOptions], BuildResult]
) -> None:
    onnx = write_network(tmp_path / "wide.onnx", dynamic=True, boxes=True)
    shapes = ShapeOptions({"images": (1, 3, SIDE, SIDE)}, largest={"images": (1, 3, 2 * SIDE, 2 * SIDE)})
    built = free_sizes(BuildOptions(onnx=onnx, shapes=shapes, tactic_sources=TACTICS))
    shares = built.manifest.key.shares_profile
    with opened(small(built.engine), streams=2) as detector, opened(small(built.engine), device_path=False) as judge:
        assert on_the_device(detector).max_batch == (2 if shares else 1)
        assert any("one stream instead of 2" in note for note in detector.info.notes) != shares
        given = frame("bgr8", 640, 480)
        assert_same(detector.detect(given).detections, require_boxes(judge.detect(decode_frame(given)).detections))


def test_an_engine_for_several_pictures_takes_one(tmp_path: Path, cache: Path) -> None:
    onnx = write_network(tmp_path / "several.onnx", dynamic=True, boxes=True)
    shapes = ShapeOptions({"images": (2, 3, SIDE, SIDE)}, largest={"images": (4, 3, SIDE, SIDE)})
    built = build_engine(BuildOptions(onnx=onnx, shapes=shapes, tactic_sources=TACTICS))
    given = frame("bgr8", 640, 480)
    with opened(small(built.engine)) as detector, opened(small(built.engine), device_path=False) as judge:
        expected = require_boxes(judge.detect(decode_frame(given)).detections)
        assert_alike(on_the_device(detector).detect(given).detections, expected)


def test_more_candidates_than_the_device_holds_are_decoded_on_the_host(tmp_path: Path, cache: Path) -> None:
    onnx = write_network(tmp_path / "large.onnx", dynamic=True)
    size = {"images": (1, 3, 4 * SIDE, 4 * SIDE)}
    built = build_engine(BuildOptions(onnx=onnx, shapes=ShapeOptions(size, size, size), tactic_sources=TACTICS))
    model = replace(small(built.engine), input=InputSpec(4 * SIDE, 4 * SIDE), thresholds=Thresholds(score=0.0))
    with opened(model) as detector, opened(model, device_path=False) as judge:
        given = frame("bgr8", 640, 480)
        expected = judge.detect(decode_frame(given)).detections
        assert len(expected) > 0
        assert_same(on_the_device(detector).detect(given).detections, expected)


def test_a_head_without_a_kernel_is_decoded_on_the_host(boxes: BuildResult) -> None:
    model = replace(small(boxes.engine), head="detr")
    with opened(model) as detector:
        assert any("decoded on the processor" in note for note in detector.info.notes)
        with pytest.raises(OutputError, match="detr"):
            detector.detect(frame())


def test_without_a_graph_the_plain_way_runs_and_says_so(boxes: BuildResult, plain: Detector) -> None:
    with opened(small(boxes.engine), cuda_graph=False) as detector:
        assert any("prepared on the processor" in n and "CUDA graph" in n for n in detector.info.notes)
        given = frame()
        assert_plain(detector.detect(given), plain, given)


def test_the_plain_way_works_beside_it(fast: Detector, plain: Detector) -> None:
    given = frame()
    before = fast.detect(given).detections
    fast.output_specs()
    fast._backend.infer(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert_same(fast.detect(given).detections, before)


def test_open_and_close_leave_no_device_memory_behind(boxes: BuildResult) -> None:
    given = frame("bgr8", 640, 480)

    def cycles(count: int) -> None:
        for _ in range(count):
            with opened(small(boxes.engine), streams=2) as detector:
                detector.detect_batch([given, given])

    cycles(10)
    assert left_behind(lambda: cycles(100)) <= BLOCK


def test_device_memory_is_flat_over_many_frames(fast: Detector) -> None:
    assert_flat_memory(fast, FRAMES)


def test_the_demo_models_detections_are_the_plain_ways(cache: Path) -> None:
    for precision in ("fp32", "fp16"):
        request = f"tensorrt:{precision}"
        settings = {"tensorrt": {"device_path": False}}
        with Detector.open("digits", request) as detector, Detector.open("digits", request, settings=settings) as judge:
            on_the_device(detector)
            for scene in heldout_scenes(50, 640, 480, seed=5):
                assert_same(detector.detect(scene.image_bgr).detections, judge.detect(scene.image_bgr).detections)
