"""The CUDA kernels, compiled for the processor, against the plain way; and the PTX against its source."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from test.camera_encodings import encode
from test.driver_on_processor import compile_for_the_processor
from tools.cuda.compile_kernels import FOLDER, compile_to_ptx, nvrtc_library, source_hash
from trt_perception.backends.cuda_frames.geometry import (
    ENCODINGS,
    HEADER_BYTES,
    FrameHeader,
    frame_geometry,
)
from trt_perception.backends.cuda_frames.structs import (
    CAPACITY,
    RESULT_BYTES,
    ChoiceHeader,
    InputStruct,
    OutputStruct,
    ResultView,
    choice_bytes,
    input_struct,
    output_struct,
)
from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.class_choice import ClassChoice
from trt_perception.encodings import camera_frame, decode_frame
from trt_perception.errors import OutputError
from trt_perception.heads import HEADS, HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.placement import NetworkToImage
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.types import AnyArray, TensorSpec, Thresholds

SOURCE = FOLDER / "frame_kernels.cu"
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = compile_for_the_processor("kernels_on_processor.cpp", tmp_path_factory.mktemp("kernels") / "kernels.so")
    return ctypes.CDLL(str(library))


def address(array: AnyArray) -> int:
    return int(array.ctypes.data)


def staged(frame: CameraFrame, spec: InputSpec) -> tuple[NDArray[np.uint8], list[AnyArray]]:
    """A frame as the GPU gets it, and the tables that it points to."""
    geometry = frame_geometry(frame, spec)
    bytes_ = np.zeros(HEADER_BYTES + geometry.staged_bytes, np.uint8)
    header = FrameHeader.from_buffer_copy(geometry.header)
    header.columns, header.rows, header.pixels = address(geometry.columns), address(geometry.rows), HEADER_BYTES
    bytes_[:HEADER_BYTES] = np.frombuffer(bytes(header), np.uint8)
    for plane in geometry.planes:
        middle = plane.taken // 3
        for begin, end in ((0, middle), (middle, plane.taken)):
            at = HEADER_BYTES + plane.staged_at + begin * plane.row_bytes
            target = bytes_[at : at + (end - begin) * plane.row_bytes]
            plane.copy(frame.buffer, target, begin, end)
    return bytes_, [geometry.columns, geometry.rows]


def prepared(kernels: ctypes.CDLL, frame: CameraFrame, spec: InputSpec, dtype: str = "float32") -> AnyArray:
    bytes_, tables = staged(frame, spec)
    tensor = np.full((1, spec.channels, spec.height, spec.width), 99, dtype)
    given = input_struct(spec, dtype)
    kernels.run_prepare(
        ctypes.c_void_p(address(bytes_)),
        ctypes.c_uint64(bytes_.size),
        ctypes.c_void_p(address(tensor)),
        ctypes.byref(given),
        1,
        None,
    )
    del tables
    return tensor


def picture(width: int, height: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def frame_of(encoding: str, width: int, height: int, padding: int = 0) -> CameraFrame:
    names = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}
    sent = encode(picture(width, height), names.get(encoding, encoding), padding)
    return camera_frame(encoding, width, height, sent.step, sent.data)


def assert_same_tensor(kernels: ctypes.CDLL, frame: CameraFrame, spec: InputSpec) -> None:
    expected, _ = Preprocessor(spec)(decode_frame(frame))
    # Where a mean is subtracted OpenCV rounds once for both steps, or twice, as its build has it.
    tolerance = 5e-7 if any(spec.mean) else 0.0
    np.testing.assert_allclose(prepared(kernels, frame, spec), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_every_encoding_becomes_the_plain_ways_tensor(kernels: ctypes.CDLL, encoding: str, color: Any) -> None:
    spec = InputSpec(96, 64, color, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    for width, height, padding in ((128, 96, 0), (130, 70, 10), (48, 40, 0)):
        assert_same_tensor(kernels, frame_of(encoding, width, height, padding), spec)


@pytest.mark.parametrize("resize", ["letterbox", "letterbox_top_left", "stretch", "crop"])
@pytest.mark.parametrize(
    "size",
    [(640, 480), (320, 240), (192, 108), (1920, 1080), (33, 500), (96, 64), (97, 65), (3, 2), (1, 1), (288, 192)],
)
def test_every_size_becomes_the_plain_ways_tensor(kernels: ctypes.CDLL, size: tuple[int, int], resize: Any) -> None:
    spec = InputSpec(96, 64, resize=resize, short_side=100 if resize == "crop" else 0)
    assert_same_tensor(kernels, frame_of("bgr8", *size), spec)
    if min(size) > 1:
        width, height = (n & ~1 for n in size)
        assert_same_tensor(kernels, frame_of("nv12", width, height, 6), spec)


def test_every_colour_of_yuv_is_opencvs(kernels: ctypes.CDLL) -> None:
    data = RNG.integers(0, 256, 512 * 512 * 2, np.uint8)
    for encoding in ("uyvy", "yuyv", "nv12", "nv21"):
        frame = camera_frame(encoding, 512, 512, 1024 if encoding[0] in "uy" else 512, data)
        assert_same_tensor(kernels, frame, InputSpec(512, 512))


@pytest.mark.parametrize(("dtype", "scale"), [("float16", 1 / 255), ("uint8", 1.0)])
def test_other_types_of_tensor(kernels: ctypes.CDLL, dtype: str, scale: float) -> None:
    frame, spec = frame_of("rgb8", 100, 80), InputSpec(64, 64, scale=scale)
    expected, _ = Preprocessor(spec)(decode_frame(frame))
    np.testing.assert_array_equal(prepared(kernels, frame, spec, dtype), expected.astype(dtype))


def test_rows_that_are_not_needed_stay_on_the_host() -> None:
    spec = InputSpec(640, 640)
    for encoding, share in (("bgr8", 1 / 3), ("yuyv", 1 / 3), ("nv12", 4 / 9)):
        frame = frame_of(encoding, 1920, 1080)
        assert frame_geometry(frame, spec).staged_bytes == round(frame.buffer.size * share)
    whole = frame_of("bgr8", 1280, 960)
    assert frame_geometry(whole, spec).staged_bytes == whole.buffer.size


# --- outputs ----------------------------------------------------------------------------------------------------

SIDE, CLASSES = 64, 5
CONTEXT = HeadContext(SIDE, SIDE, CLASSES, ("output0",))
LABELS = tuple("abcde")
WAY_BACK = NetworkToImage(1.0, 1.0, 0.0, 0.0, SIDE, SIDE)


def outputs_of(head: str, boxes: int, seed: int = 1) -> AnyArray:
    """Outputs of a head, with boxes that overlap and about a quarter above a score of 0.25."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(8, 56, (boxes, 2))
    size = rng.uniform(4, 24, (boxes, 2))
    scores = rng.uniform(0, 1, (boxes, CLASSES)) ** 8
    if head == "end_to_end":
        corners = np.concatenate((center - size / 2, center + size / 2), axis=1)
        kind = rng.integers(0, CLASSES, (boxes, 1))
        return np.concatenate((corners, scores[:, :1], kind), axis=1)[None].astype(np.float32)
    if head == "yolov8":
        return np.ascontiguousarray(np.concatenate((center, size, scores), axis=1).T[None], np.float32)
    objectness = rng.uniform(0.5, 1, (boxes, 1))
    if head == "yolox":
        center, size = rng.uniform(-0.5, 1.5, (boxes, 2)), rng.normal(0, 0.5, (boxes, 2))
    return np.concatenate((center, size, objectness, scores), axis=1)[None].astype(np.float32)


BOXES = {"yolov8": 300, "yolov5": 252, "yolox": 84, "end_to_end": 100}


def chosen(
    kernels: ctypes.CDLL, head: str, output: AnyArray, thresholds: Thresholds, batch: int = 1
) -> list[tuple[Survivors | None, int]]:
    plan = FramePlan(InputSpec(SIDE, SIDE), head, HEADS[head].needs_nms, CLASSES)
    spec = TensorSpec("output0", str(output.dtype), output.shape)
    out = output_struct(plan, (spec,))
    assert isinstance(out, OutputStruct)
    out.values = address(output)
    choice = np.frombuffer(choice_bytes(ClassChoice(thresholds, LABELS), CLASSES), np.uint8).copy()
    candidates = np.zeros(batch * CAPACITY * 32, np.uint8)
    counters = np.zeros(batch * 2, np.uint32)
    results = np.full(batch * RESULT_BYTES, 7, np.uint8)
    for _ in range(2):  # the second run finds the counters as the first one left them
        kernels.run_choose(
            ctypes.byref(out),
            *(ctypes.c_void_p(address(a)) for a in (choice, candidates, counters, results)),
            batch,
        )
    assert not counters.any()
    return [ResultView(results[i * RESULT_BYTES : (i + 1) * RESULT_BYTES]).read() for i in range(batch)]


def assert_plain_detections(head: str, output: AnyArray, thresholds: Thresholds, found: Survivors | None) -> None:
    choice = ClassChoice(thresholds, LABELS)
    expected = postprocess((output.astype(np.float32),), head_for(head), CONTEXT, choice, WAY_BACK)
    assert found is not None and found.suppressed
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    # Only YOLOX's exponential may differ in its last digit.
    np.testing.assert_allclose(
        WAY_BACK.map_boxes(found.boxes_xyxy), expected.boxes_xyxy, rtol=1e-6 if head == "yolox" else 0, atol=1e-5
    )


@pytest.mark.parametrize("head", BOXES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_detections_are_the_plain_ways(kernels: ctypes.CDLL, head: str, dtype: str) -> None:
    for seed in range(5):
        output = outputs_of(head, BOXES[head], seed).astype(dtype)
        for thresholds in (
            Thresholds(),
            Thresholds(score=0.05, iou=0.2),
            Thresholds(score=0.05, iou=0.6, class_agnostic=True),
            Thresholds(score=0.1, max_detections=5),
            Thresholds(score=0.9, per_class=(("b", 0.1),), classes=("b", "c")),
            Thresholds(score=0.999999),
        ):
            ((found, count),) = chosen(kernels, head, output, thresholds)
            assert_plain_detections(head, output, thresholds, found)
            assert found is not None and count >= len(found.scores)


def test_equal_scores_keep_their_order(kernels: ctypes.CDLL) -> None:
    output = outputs_of("yolov8", 300)
    output[0, 4:] = np.round(output[0, 4:], 1)
    ((found, _),) = chosen(kernels, "yolov8", output, Thresholds(score=0.15))
    assert_plain_detections("yolov8", output, Thresholds(score=0.15), found)


def test_each_image_of_a_batch_has_its_own(kernels: ctypes.CDLL) -> None:
    output = np.concatenate([outputs_of("yolov5", 252, seed) for seed in range(3)])
    for index, (found, _) in enumerate(chosen(kernels, "yolov5", output, Thresholds(), batch=3)):
        assert_plain_detections("yolov5", output[index : index + 1], Thresholds(), found)


@pytest.mark.parametrize("head", BOXES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_left_to_the_host(kernels: ctypes.CDLL, head: str, value: float) -> None:
    for place in (0, 4 if head == "end_to_end" else 6):
        output = outputs_of(head, BOXES[head])
        view = output[0].T if head == "yolov8" else output[0]
        view[:, 5 if head != "end_to_end" else 4] = 0.9
        view[20, place] = value
        if value < 0 and place:
            view[20, 4:] = value
        ((found, _),) = chosen(kernels, head, output, Thresholds())
        assert found is None


def test_too_many_candidates_are_left_to_the_host(kernels: ctypes.CDLL) -> None:
    output = outputs_of("yolov8", CAPACITY + 1)
    output[0, 4] = 0.9
    assert chosen(kernels, "yolov8", output, Thresholds()) == [(None, CAPACITY + 1)]
    fits = np.ascontiguousarray(output[:, :, :CAPACITY])
    ((found, count),) = chosen(kernels, "yolov8", fits, Thresholds())
    assert count == CAPACITY
    assert_plain_detections("yolov8", fits, Thresholds(), found)


def test_what_the_heads_refuse_is_left_to_the_host(kernels: ctypes.CDLL) -> None:
    decoded = outputs_of("yolox", 84)
    decoded[0, 3, 2] = 40.0
    ((found, _),) = chosen(kernels, "yolox", decoded, Thresholds())
    assert found is None


@pytest.mark.parametrize("thresholds", [Thresholds(), Thresholds(classes=("b",)), Thresholds(per_class=(("b", 0.5),))])
@pytest.mark.parametrize("class_value", [2.5, CLASSES, -1, -0.5, np.nan, np.inf])
def test_a_class_that_cannot_be_is_left_to_the_host_where_its_score_counts(
    kernels: ctypes.CDLL, thresholds: Thresholds, class_value: float
) -> None:
    output = outputs_of("end_to_end", 100)
    output[0, 3, 4:] = 0.9, class_value
    ((found, _),) = chosen(kernels, "end_to_end", output, thresholds)
    assert found is None
    output[0, 3, 4] = 0.1
    ((found, _),) = chosen(kernels, "end_to_end", output, thresholds)
    assert_plain_detections("end_to_end", output, thresholds, found)


@pytest.mark.parametrize("head", BOXES)
def test_boxes_of_classes_that_are_not_wanted_must_be_finite_too(kernels: ctypes.CDLL, head: str) -> None:
    thresholds = Thresholds(classes=("b",))
    output = outputs_of(head, BOXES[head])
    view = output[0].T if head == "yolov8" else output[0]
    view[20, 4:] = (0.9, 0) if head == "end_to_end" else 0.1
    if head != "end_to_end":
        view[20, [4, 5]] = 0.9  # objectness or class a, and class b or a
        view[20, 4 if head == "yolov8" else 5] = 0.95
    view[20, 0] = np.nan
    ((found, _),) = chosen(kernels, head, output, thresholds)
    assert found is None
    with pytest.raises(OutputError, match="boxes hold NaN"):
        postprocess((output,), head_for(head), CONTEXT, ClassChoice(thresholds, LABELS), WAY_BACK)


def test_outputs_of_other_heads_and_shapes_have_no_kernel() -> None:
    spec = TensorSpec("output0", "float32", (1, 9, 300))
    for head, shapes in (("detr", [spec]), ("yolov8", [spec, spec]), ("yolov8", [TensorSpec("o", "int32", (1, 9, 3))])):
        plan = FramePlan(InputSpec(SIDE, SIDE), head, HEADS[head].needs_nms, CLASSES)
        assert isinstance(output_struct(plan, shapes), str)


# --- the PTX ----------------------------------------------------------------------------------------------------


def test_the_ptx_is_for_the_drivers_and_gpus_that_are_promised() -> None:
    text = SOURCE.with_suffix(".ptx").read_text()
    (version,) = re.findall(r"^\.version (\d+)\.(\d+)$", text, re.MULTILINE)
    (target,) = re.findall(r"^\.target sm_(\d+)$", text, re.MULTILINE)
    # CUDA 11.4 speaks PTX ISA 7.4 (its release notes).
    assert tuple(map(int, version)) <= (7, 4) and int(target) <= 72
    assert re.findall(r"\.visible \.entry (\w+)", text) == ["prepare", "gather", "suppress", "mark"]


def test_the_ptx_was_made_from_the_present_source() -> None:
    first_line = SOURCE.with_suffix(".ptx").read_text().splitlines()[0]
    assert source_hash(SOURCE) in first_line, "run python -m tools.cuda.compile_kernels"


def test_the_compiler_still_makes_the_same_ptx() -> None:
    try:
        library = nvrtc_library()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert compile_to_ptx(SOURCE, library) == SOURCE.with_suffix(".ptx").read_text()


def test_the_structures_have_the_kernels_sizes() -> None:
    assert (HEADER_BYTES, ctypes.sizeof(InputStruct), ctypes.sizeof(OutputStruct)) == (64, 56, 64)
    assert (ctypes.sizeof(ChoiceHeader), RESULT_BYTES) == (32, 64 + 32 * CAPACITY)
