"""What a head does: a network's raw outputs become candidate boxes in network pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from trt_perception.errors import OutputError
from trt_perception.types import AnyArray, Float32Array, Int64Array, TensorSpec, none_besides


@dataclass(frozen=True)
class HeadContext:
    """What outputs alone do not say.

    width, height: of the network's input, pixels, 0 where that is not known. class_count: 0 when the model does not
    name its classes. output_names: in the order of the outputs, empty where the artifact does not tell them.
    """

    width: int
    height: int
    class_count: int = 0
    output_names: tuple[str, ...] = ()

    def cells(self, strides: Sequence[int]) -> int:
        """Number of cells in the grids of those strides over the network's input."""
        return sum(-(-self.width // s) * -(-self.height // s) for s in strides)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes before suppression: float32 (N, 4) left, top, right, bottom in network pixels, scores 0..1, class ids.

    A box of (-inf, -inf, inf, inf) is the whole picture, also what the network's input cuts off. other_scores and
    other_class_ids as in Detections.
    """

    boxes_xyxy: Float32Array
    scores: Float32Array
    class_ids: Int64Array
    other_scores: Float32Array = field(default_factory=lambda: none_besides(0)[0])
    other_class_ids: Int64Array = field(default_factory=lambda: none_besides(0)[1])


class Head(Protocol):
    """Decodes the outputs of one family of networks; holds nothing between frames.

    needs_nms: its boxes still have to be suppressed. batched: the first axis of every output is the picture.
    layout: the outputs' shapes, for messages and documents.
    """

    needs_nms: bool
    batched: bool
    layout: str

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """Why outputs of these shapes may be of this family, None when they are not; free axes may be anything."""
        ...

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """Candidates above the threshold of the first image of a batch.

        Raises OutputError when the outputs do not have the shapes of this head, hold values that it cannot have
        made, or are not finite.
        """
        ...


def describe_shapes(outputs: Sequence[AnyArray]) -> str:
    """The outputs' types and shapes, for messages."""
    return ", ".join(f"{o.dtype}{tuple(o.shape)}" for o in outputs) or "nothing"


def unexpected(outputs: Sequence[AnyArray], head: str, expected: str) -> OutputError:
    """The error for outputs that are not this head's."""
    return OutputError(
        f"the network gave {describe_shapes(outputs)}; the {head} head expects {expected}: "
        "correct `labels` or `head` in the model file"
    )


def require_finite(values: AnyArray, what: str) -> None:
    """Raises OutputError when a value is NaN or infinite: such a network must not look as if it saw nothing."""
    # The extremes tell, without a mask of all values: NaN and infinities show in them.
    largest = np.maximum.reduce(values, axis=None, initial=0.0)
    if not (math.isfinite(largest) and math.isfinite(np.minimum.reduce(values, axis=None, initial=0.0))):
        raise OutputError(
            f"the network's {what} hold NaN or infinite values; check the weights, and with fp16 or int8 whether "
            "fp32 gives finite ones"
        )


def require_classes(values: AnyArray, class_count: int, head: str) -> Int64Array:
    """Class numbers as int64; raises OutputError for what is no number of a class."""
    class_ids = values.astype(np.int64)
    known = class_count or np.iinfo(np.int32).max
    if (class_ids != values).any() or (class_ids < 0).any() or (class_ids >= known).any():
        stranger = next(v for v in values.tolist() if v != int(v) or not 0 <= v < known)
        raise OutputError(
            f"the network gave class {stranger:g} to a box, the model names {class_count or 'no'} classes; these are "
            f"not outputs for the {head} head, or `labels` is not this model's: correct the model file"
        )
    return class_ids


def require_normalised(boxes: AnyArray, head: str) -> None:
    """Raises OutputError for boxes that are not fractions of the network's input."""
    if boxes.size and float(np.abs(boxes).max()) > 2.0:
        raise OutputError(
            f"the network's boxes reach {float(np.abs(boxes).max()):.4g}; the {head} head expects fractions of the "
            "input's width and height: correct `head` in the model file"
        )


def centered_to_corners(boxes: Float32Array) -> Float32Array:
    """(N, 4) centre x, centre y, width, height to left, top, right, bottom."""
    half = boxes[:, 2:] * np.float32(0.5)
    corners = np.empty_like(boxes)
    np.subtract(boxes[:, :2], half, out=corners[:, :2])
    np.add(boxes[:, :2], half, out=corners[:, 2:])
    return corners


def best_classes(class_scores: AnyArray, score_threshold: float) -> tuple[Int64Array, Float32Array, Int64Array]:
    """Rows (N, classes) whose best score is above the threshold: their numbers, those scores and their classes.

    Raises OutputError for a score that is not finite: a NaN anywhere in a row makes its maximum NaN.
    """
    best = class_scores.max(axis=1)
    require_finite(best, "scores")
    chosen = np.flatnonzero(best > score_threshold)
    return chosen, best[chosen].astype(np.float32, copy=False), class_scores[chosen].argmax(axis=1)


def best_products(
    prediction: AnyArray, largest: AnyArray, score_threshold: float
) -> tuple[Int64Array, Float32Array, Int64Array]:
    """As best_classes, where a score is the objectness times that of the class; rows of box (4), objectness, classes.

    largest: column_maxima(prediction). Only rows that can reach the threshold are multiplied: no product is larger than
    the objectness times the largest score of any class. (With an objectness below 0, which no network of this kind
    gives, one could be, so those rows are multiplied, too.) Raises OutputError for a score that is not finite.
    """
    require_finite(largest[4:], "scores")
    objectness = prediction[:, 4]
    reachable = ((objectness * largest[5:].max() > score_threshold) | (objectness < 0)).nonzero()[0]
    rows = prediction[reachable]
    chosen, scores, class_ids = best_classes(rows[:, 4:5] * rows[:, 5:], score_threshold)
    return reachable[chosen], scores, class_ids


# NumPy is twice as fast with rows that are as long as so many of 85 columns.
_ROWS_TOGETHER = 40


def column_maxima(table: AnyArray) -> AnyArray:
    """The largest value of each column of (N, columns), 0 where all are below that; NaN where one is."""
    columns = table.shape[1]
    whole = len(table) - len(table) % _ROWS_TOGETHER
    together = np.maximum.reduce(table[:whole].reshape(-1, _ROWS_TOGETHER * columns), axis=0, initial=0)
    rows = np.concatenate((together.reshape(-1, columns), table[whole:]))
    result: AnyArray = np.maximum.reduce(rows, axis=0)
    return result


def sigmoid(values: AnyArray) -> Float32Array:
    """1 / (1 + exp(-x)), without overflow."""
    result: Float32Array = (0.5 * (np.tanh(0.5 * values.astype(np.float32)) + 1)).astype(np.float32)
    return result


def softmax(values: AnyArray) -> Float32Array:
    """Over the last axis, without overflow."""
    shifted = values.astype(np.float32) - values.max(axis=-1, keepdims=True).astype(np.float32)
    exponentials = np.exp(shifted)
    result: Float32Array = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result
