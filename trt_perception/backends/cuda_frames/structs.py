"""What the kernels of frame_kernels.cu take and give, as bytes; nothing of CUDA here."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.class_choice import ClassChoice
from trt_perception.model_file import InputSpec
from trt_perception.types import TensorSpec, Uint8Array

# Names and values as in frame_kernels.cu.
CAPACITY = 1024
GROUPS = 8
COUNTER_BYTES = 8
CANDIDATE_BYTES = 32
RESULT_HEADER_BYTES = 64
TIMES_BYTES = 48
_POINTS = 5  # of time
RESULT_BYTES = RESULT_HEADER_BYTES + CAPACITY * CANDIDATE_BYTES
TYPES = {"float32": 0, "float16": 1, "uint8": 2}
_HEADS = {"yolov8": 0, "yolov5": 1, "yolox": 2, "end_to_end": 3}
_ROWS_FIRST = "yolov8"  # its boxes lie in columns, those of the others in rows
_LEAST_VALUES = {"yolov8": 5, "yolov5": 6, "yolox": 6, "end_to_end": 6}


class InputStruct(ctypes.Structure):
    """`Input`."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("width", "height", "channels", "type", "red_first")),
        *((name, ctypes.c_int) for name in ("pixel_stride", "plane_stride")),
        ("pad", ctypes.c_float),
        ("factor", ctypes.c_float * 3),
        ("shift", ctypes.c_float * 3),
    ]


class OutputStruct(ctypes.Structure):
    """`Output`."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("values", "image_stride", "box_stride", "value_stride")),
        *((name, ctypes.c_int) for name in ("boxes", "classes", "type", "head")),
        *((name, ctypes.c_int) for name in ("width", "height", "named_classes", "needs_nms")),
    ]


class ChoiceHeader(ctypes.Structure):
    """`Choice` without its table."""

    _fields_ = [
        ("iou", ctypes.c_float),
        ("least_other", ctypes.c_float),
        ("lowest", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("max_detections", "class_agnostic", "classes")),
        ("unused", ctypes.c_int * 2),
    ]


def input_struct(spec: InputSpec, dtype: str, *, channels_last: bool = False) -> InputStruct:
    """How the input tensor is written; dtype: one of TYPES. The arithmetic is that of the plain way.

    channels_last: a pixel's values lie side by side.
    """
    std = np.asarray(spec.std, np.float32)
    factor = np.float32(spec.scale) / std
    shift = -np.asarray(spec.mean, np.float32) / std
    return InputStruct(
        width=spec.width,
        height=spec.height,
        channels=spec.channels,
        type=TYPES[dtype],
        red_first=spec.color_order == "rgb",
        pixel_stride=spec.channels if channels_last else 1,
        plane_stride=1 if channels_last else spec.width * spec.height,
        pad=spec.pad_value,
        factor=(ctypes.c_float * 3)(*factor.tolist()),
        shift=(ctypes.c_float * 3)(*shift.tolist()),
    )


def output_struct(plan: FramePlan, outputs: Sequence[TensorSpec]) -> OutputStruct | str:
    """How the raw outputs are read, without their address; or why no kernel reads them.

    outputs: with the shapes that they have, of which the first size is the batch.
    """
    if plan.head not in _HEADS:
        return f"the head {plan.head} is decoded on the processor"
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].dtype not in ("float32", "float16"):
        return f"{plan.head} is decoded on the processor where outputs are {'; '.join(map(str, outputs))}"
    first, second = (int(n or 0) for n in outputs[0].shape[1:])
    by_columns = plan.head == _ROWS_FIRST
    values, boxes = (first, second) if by_columns else (second, first)
    classes = 0 if plan.head == "end_to_end" else values - _LEAST_VALUES[plan.head] + 1
    # A head refuses these when it sees them, with a message about the model file.
    misfit = values < _LEAST_VALUES[plan.head] or (plan.class_count and classes not in (0, plan.class_count))
    if misfit or boxes < 1 or (plan.head == "end_to_end" and values != _LEAST_VALUES[plan.head]):
        return f"outputs of {outputs[0]} do not fit the head {plan.head}"
    return OutputStruct(
        image_stride=first * second,
        box_stride=1 if by_columns else values,
        value_stride=boxes if by_columns else 1,
        boxes=boxes,
        classes=classes,
        type=TYPES[outputs[0].dtype],
        head=_HEADS[plan.head],
        width=plan.input.width,
        height=plan.input.height,
        named_classes=plan.class_count,
        needs_nms=plan.needs_nms,
    )


def choice_bytes(choice: ClassChoice, classes: int) -> bytes:
    """`Choice` with a table of that many classes; those beyond it need the common score."""
    thresholds = choice.thresholds
    header = ChoiceHeader(
        iou=thresholds.iou,
        least_other=choice.least_other,
        lowest=choice.lowest_score,
        max_detections=thresholds.max_detections,
        class_agnostic=thresholds.class_agnostic,
        classes=classes,
    )
    return bytes(header) + choice.least_scores(classes).tobytes()


class ResultView:
    """One image's result in memory that the device writes; result: uint8 (RESULT_BYTES,)."""

    def __init__(self, result: Uint8Array) -> None:
        self._header = result[:RESULT_HEADER_BYTES].view(np.uint32)[:3]
        self._times = result[RESULT_HEADER_BYTES - TIMES_BYTES : RESULT_HEADER_BYTES].view(np.uint64)
        floats = result[RESULT_HEADER_BYTES:].view(np.float32).reshape(CAPACITY, -1)
        self._boxes, self._scores = floats[:, :4], floats[:, 4]
        self._class_ids = floats.view(np.int32)[:, 5]

    def times_ns(self) -> list[int]:
        """When the device had uploaded, prepared, inferred, chosen and ended, by its own clock."""
        times: list[int] = self._times[:_POINTS].tolist()
        return times

    def read(self) -> tuple[Survivors | None, int]:
        """The detections, None where the host has to decode the image, and how many candidates there were."""
        count, trouble, candidates = self._header.tolist()
        if trouble:
            return None, candidates
        found = self._boxes[:count].copy(), self._scores[:count].copy(), self._class_ids[:count].astype(np.int64)
        return Survivors(*found, suppressed=True), candidates
