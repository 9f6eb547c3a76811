"""What travels between the layers: frozen, with shapes, dtypes, units and frames stated here once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trt_perception.errors import ImageError, PerceptionError

Float32Array: TypeAlias = NDArray[np.float32]
Uint8Array: TypeAlias = NDArray[np.uint8]
Int64Array: TypeAlias = NDArray[np.int64]
AnyArray: TypeAlias = NDArray[Any]

ColorOrder: TypeAlias = Literal["bgr", "rgb", "bgra", "rgba", "gray"]
CHANNELS: dict[str, int] = {"bgr": 3, "rgb": 3, "bgra": 4, "rgba": 4, "gray": 1}


@dataclass(frozen=True, eq=False)
class Image:
    """A camera picture as it arrived.

    pixels: uint8, (height, width, channels), rows may be padded (strided), never written to.
    color_order: what the channels mean.
    """

    pixels: Uint8Array
    color_order: ColorOrder

    @property
    def width(self) -> int:
        """Pixels per row."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])


def as_image(pixels: Image | AnyArray, color_order: ColorOrder = "bgr") -> Image:
    """Wraps an array, (height, width) or (height, width, channels) uint8; raises ImageError when it is none.

    An Image is returned as it is.
    """
    if isinstance(pixels, Image):
        return pixels
    if not isinstance(pixels, np.ndarray):
        raise ImageError(f"got a {type(pixels).__name__}; expected a uint8 NumPy array (was the picture read at all?)")
    if color_order not in CHANNELS:
        raise ImageError(f"colour order {color_order!r} is not known; use one of {', '.join(CHANNELS)}")
    if pixels.ndim == 2:
        pixels, color_order = pixels[:, :, np.newaxis], "gray"
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != CHANNELS[color_order]:
        raise ImageError(
            f"got a {pixels.dtype} array of shape {pixels.shape}; a {color_order} picture is uint8 "
            f"(height, width, {CHANNELS[color_order]})"
        )
    return Image(pixels, color_order)


@lru_cache(maxsize=512)
def none_besides(boxes: int) -> tuple[Float32Array, Int64Array]:
    """Arrays without an element, so that all may share them."""
    return np.zeros((boxes, 0), np.float32), np.zeros((boxes, 0), np.int64)


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes found in one image, best score first.

    boxes_xyxy: float32 (N, 4), left, top, right, bottom in pixels of the image as received; x to the right,
    y down, (0, 0) is the outer corner of the top left pixel, so that a box over the whole image is
    (0, 0, width, height).
    scores: float32 (N,), 0..1.
    class_ids: int64 (N,), index into the model's labels.
    other_scores, other_class_ids: float32 and int64 (N, M), what else each box may be, best first and below the box's
    own score; M is 0 for detectors, which give one class a box, and up to 4 for classifiers.
    """

    boxes_xyxy: Float32Array
    scores: Float32Array
    class_ids: Int64Array
    other_scores: Float32Array = field(default_factory=lambda: none_besides(0)[0])
    other_class_ids: Int64Array = field(default_factory=lambda: none_besides(0)[1])

    def __post_init__(self) -> None:
        if self.other_scores.size == 0:
            scores, class_ids = none_besides(len(self))
            object.__setattr__(self, "other_scores", scores)
            object.__setattr__(self, "other_class_ids", class_ids)

    def __len__(self) -> int:
        return int(self.scores.shape[0])

    @classmethod
    def none(cls) -> Detections:
        """Nothing found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a network; None marks an axis whose size is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True)
class StageTimes:
    """How long each stage of one frame took, in nanoseconds; None where the backend has no such stage.

    inference_start_ns is a reading of the monotonic clock (time.monotonic_ns), the rest are durations.
    host_to_device, inference and device_to_host are device time where a device of its own does the work.
    around_on_device_ns: the part of pre- and postprocessing together that the same device did.

    batch_size: how many pictures went through the network together. With more than one, the copies and the inference
    are those of the whole batch and the same in each picture's times: a picture is not done before its batch is, and
    the device was busy once, in the same interval for all. preprocess and postprocess are the picture's own where the
    processor does them, and those of the whole batch where the device does.
    """

    preprocess_ns: int
    inference_ns: int
    postprocess_ns: int
    inference_start_ns: int
    host_to_device_ns: int | None = None
    device_to_host_ns: int | None = None
    around_on_device_ns: int = 0
    batch_size: int = 1

    @property
    def busy_ns(self) -> int:
        """What the inference device was occupied for: both copies, the inference and what it did around it."""
        copies_ns = (self.host_to_device_ns or 0) + (self.device_to_host_ns or 0)
        return copies_ns + self.inference_ns + self.around_on_device_ns

    @property
    def total_ns(self) -> int:
        """All stages together."""
        return self.preprocess_ns + self.busy_ns - self.around_on_device_ns + self.postprocess_ns

    def durations_ms(self) -> dict[str, float]:
        """The stages that exist, in the order in which they run, in milliseconds."""
        stages = {
            "preprocess_ms": self.preprocess_ns,
            "host_to_device_ms": self.host_to_device_ns,
            "inference_ms": self.inference_ns,
            "device_to_host_ms": self.device_to_host_ns,
            "postprocess_ms": self.postprocess_ns,
        }
        return {name: value / 1e6 for name, value in stages.items() if value is not None}


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What a detector found in one image, and how long each stage took."""

    detections: Detections
    times: StageTimes


@dataclass(frozen=True)
class Thresholds:
    """What counts as a detection.

    score: keep candidates above it, 0..1. iou: overlap above which the weaker of two boxes of one class goes,
    0..1. max_detections: boxes kept per image, best first. class_agnostic: the weaker box goes whatever its class is;
    counts only where boxes are suppressed here and not by the network. per_class: pairs of a class's name and the
    score that holds for it in place of `score`. classes: names of those that are kept, empty for all. A class without
    a name goes by its number.
    """

    score: float = 0.25
    iou: float = 0.45
    max_detections: int = 300
    class_agnostic: bool = False
    per_class: tuple[tuple[str, float], ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_classes = ((f"score of class {name!r}", value) for name, value in self.per_class)
        for name, value in (("score", self.score), ("iou", self.iou), *of_classes):
            if not 0.0 <= value <= 1.0:
                raise PerceptionError(f"the {name} threshold is {value}; give a number from 0 to 1")
        if self.max_detections < 1:
            raise PerceptionError(f"max_detections is {self.max_detections}; give at least 1")
