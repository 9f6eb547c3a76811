"""What networks and other nodes give: outputs of any shape and value to every head, latency reports to the monitor."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np

from test.fuzz.mutate import FLOATS, INTEGERS
from test.fuzz.target import Target
from trt_perception.class_choice import ClassChoice
from trt_perception.control_budget import BudgetMonitor, named_report
from trt_perception.heads import HEADS, HeadContext
from trt_perception.heads.recognise import recognise
from trt_perception.placement import NetworkToImage
from trt_perception.postprocess import postprocess
from trt_perception.types import AnyArray, TensorSpec, Thresholds

_CLASSES = 3
# What each head takes: numbers in _SHAPES.
_FITTING = {
    "yolov8": (0,),
    "yolov5": (1,),
    "yolox": (2,),
    "end_to_end": (3,),
    "rtdetr": (4, 5),
    "detr": (6,),
    "torchvision": (7,),
    "ssd": (11,),
    "efficient_nms": (9,),
    "classification": (10,),
}
# Cells of a 64x64 input at strides 8, 16 and 32, three anchors each; with the shapes that heads expect.
_SHAPES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((1, 4 + _CLASSES, 84),),
    ((1, 252, 5 + _CLASSES),),
    ((1, 84, 5 + _CLASSES),),
    ((1, 10, 6),),
    ((1, 10, 4), (1, 10, _CLASSES)),
    ((1, 10, 4 + _CLASSES),),
    ((1, 10, _CLASSES + 1), (1, 10, 4)),
    ((10, 4), (10,), (10,)),
    ((1, 10, 4), (1, 10), (1, 10), (1,)),
    ((1, 1), (1, 10, 4), (1, 10), (1, 10)),
    ((1, _CLASSES),),
    ((1, 10, 4), (1, 10), (1, 10)),
)
_DTYPES = (*(np.float32,) * 12, np.float16, np.float64, np.int32, np.int64, np.uint8, np.bool_)
_NAMES = ("output0", "boxes", "scores", "labels", "num_detections", "num_dets", "det_boxes", "logits", "pred_boxes", "")
_LABELS = ("a", "b", "c")
_WAY_BACK = NetworkToImage(0.5, 0.5, 3, 4, 128, 96)


@cache
def _choice(score: float, classes: tuple[str, ...]) -> ClassChoice:
    return ClassChoice(Thresholds(score=score, classes=classes, max_detections=20), _LABELS)


def _shapes(random: Random, head: str = "") -> list[tuple[int, ...]]:
    fitting = _FITTING.get(head, range(len(_SHAPES))) if random.random() < 0.8 else range(len(_SHAPES))
    shapes = list(_SHAPES[random.choice(fitting)])
    while random.random() < 0.25:
        change = random.randrange(4)
        index = random.randrange(len(shapes)) if shapes else 0
        if change == 0 or not shapes:
            shapes.insert(index, tuple(random.choice((0, 1, 2, 4, 7)) for _ in range(random.randrange(5))))
        elif change == 1:
            del shapes[index]
        elif change == 2:
            random.shuffle(shapes)
        else:
            sides = list(shapes[index])
            if sides:
                sides[random.randrange(len(sides))] = random.choice((0, 1, 2, 3, 5, 6, 8, 85))
            shapes[index] = tuple(sides)
    return shapes


def _array(random: Random, shape: tuple[int, ...]) -> AnyArray:
    dtype = random.choice(_DTYPES)
    scale = random.choice((0.0, 1.0, 1.0, 64.0, 1e6, 1e30))
    with np.errstate(all="ignore"):
        values: AnyArray = (np.random.default_rng(random.getrandbits(32)).random(shape) * scale).astype(dtype)
        if scale == 1.0 and values.size and values.ndim and random.random() < 0.5:
            # Small whole numbers stand where some heads have classes.
            part = values[..., -1] if values.ndim > 2 else values
            part[...] = random.randrange(3)
        for _ in range(random.choice((0, 0, 0, 0, 1, 3))):
            if values.size:
                values.reshape(-1)[random.randrange(values.size)] = np.array(random.choice(FLOATS)).astype(dtype)
    return values


def outputs(random: Random) -> None:
    """Every head takes what it gets or says why not; what it gives are boxes inside the picture."""
    name = random.choice(tuple(HEADS))
    head = HEADS[name]()
    arrays = [_array(random, shape) for shape in _shapes(random, name)]
    names = tuple(random.choice(_NAMES) for _ in arrays) if random.random() < 0.5 else ()
    sides = (64, 64) if random.random() < 0.9 else (random.choice((0, 1, 63)), random.choice((0, 640)))
    context = HeadContext(*sides, random.choice((0, _CLASSES, _CLASSES, 1)), names)
    choice = _choice(random.choice((0.0, 0.25, 1.0)), random.choice(((), ("b",))))
    with np.errstate(all="ignore"):
        found = postprocess(arrays, head, context, choice, _WAY_BACK)
    assert np.isfinite(found.boxes_xyxy).all() and np.isfinite(found.scores).all()
    assert (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy <= (128, 96, 128, 96)).all()
    assert (found.class_ids >= 0).all()
    assert not context.class_count or (found.class_ids < context.class_count).all()


def shapes(random: Random) -> None:
    """Which head fits outputs of these shapes."""
    specs = tuple(
        TensorSpec(random.choice(_NAMES), "float32", tuple(s if random.random() < 0.9 else None for s in shape))
        for shape in _shapes(random)
    )
    width, height = (random.choice((0, 1, 64, 640, 2**31)) for _ in range(2))
    context = HeadContext(width, height, random.choice((0, 1, _CLASSES)))
    found = recognise(specs, context, random.choice(({}, {"end2end": "True"}, {"description": "RT-DETR"})))
    assert found.name in HEADS


def latency_reports(random: Random) -> None:
    """A monitor lives on whatever a message holds and whatever the clock does."""
    monitor = BudgetMonitor(["a", "b"], random.choice((0.1, 50.0, 10_000.0)), learns=random.random() < 0.5)
    now_ns = random.choice((0, 1_700_000_000_000_000_000))
    figures: dict[str, Any] = {}
    for _ in range(random.randint(1, 8)):
        now_ns += random.choice((0, 1, 20_000_000, 5_000_000_000, -1_000_000_000))
        stamp_ns = now_ns - random.choice((0, 30_000_000, -30_000_000, now_ns, 10**15))
        for name in ("inference_start_offset_ms", "inference_ms", "host_to_device_ms"):
            figures[name] = random.choice((*FLOATS, 5.0, 10.0, -3.0, *map(float, INTEGERS)))
        if random.random() < 0.2:
            figures.pop(random.choice(tuple(figures)))
        monitor.add_latency(random.choice(("a", "b")), stamp_ns, figures, now_ns)
        monitor.add_control_arrival(now_ns + random.choice((0, -1, 10**12)))
        if random.random() < 0.5:
            report = monitor.report(now_ns)
            assert all(isinstance(value, float | int) for value in named_report(report.united, report.learned).values())


TARGETS = (
    Target("outputs", outputs, 5.0),
    Target("output_shapes", shapes, 2.0),
    Target("latency_reports", latency_reports, 1.0),
)
