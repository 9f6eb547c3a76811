"""Detection transformers: queries with a box each, centre and size as fractions of the input, and class scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.heads.base import (
    Candidates,
    HeadContext,
    best_classes,
    centered_to_corners,
    require_finite,
    require_normalised,
    sigmoid,
    softmax,
    unexpected,
)
from trt_perception.types import AnyArray, Float32Array, TensorSpec

_MAX_QUERIES = 1000


class RtDetrHead:
    """RT-DETR and others with a sigmoid for each class: boxes (batch, queries, 4) and scores (batch, queries, classes).

    The outputs come in either order, or joined as Ultralytics does: (batch, queries, 4 + classes). Scores outside
    0..1 are logits. Zhao et al., DETRs Beat YOLOs on Real-time Object Detection.
    """

    needs_nms = False
    batched = True
    layout = "boxes (batch, queries, 4) and scores (batch, queries, classes), or (batch, queries, 4 + classes)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By the number of scores; joined outputs only where the classes are named."""
        count = context.class_count
        if len(outputs) == 1 and len(outputs[0].shape) == 3:
            _, queries, columns = outputs[0].shape
            if count and columns == 4 + count and (queries is None or queries <= _MAX_QUERIES):
                return f"{queries or 'a free number of'} queries with 4 + {count} columns"
            return None
        columns = _score_columns(outputs)
        if columns is None or (count and columns != count):
            return None
        return f"boxes and {columns} scores for each query"

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode."""
        count = context.class_count
        if len(outputs) == 1 and outputs[0].ndim == 3 and outputs[0].shape[2] > 4:
            boxes, scores = outputs[0][:, :, :4], outputs[0][:, :, 4:]
        else:
            boxes, scores = _boxes_and_scores(outputs, context, "rtdetr", count or None)
        if boxes.shape[0] < 1 or (count and scores.shape[2] != count):
            raise unexpected(outputs, "rtdetr", f"boxes (batch, queries, 4) and {count or 'class'} scores a query")
        return _candidates(boxes[0], _probabilities(scores[0]), score_threshold, context, "rtdetr")


class DetrHead:
    """DETR: boxes (batch, queries, 4), scores (batch, queries, classes + 1), the last of which means no object.

    The outputs come in either order. Scores that do not add up to 1 are logits. Carion et al., End-to-End Object
    Detection with Transformers.
    """

    needs_nms = False
    batched = True
    layout = "boxes (batch, queries, 4) and scores (batch, queries, classes + 1)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By one score more than classes."""
        columns = _score_columns(outputs)
        if columns is None or columns < 2 or (context.class_count and columns != context.class_count + 1):
            return None
        return f"boxes and {columns} scores for each query, the last for no object"

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode; `no object` is no candidate."""
        columns = context.class_count + 1 if context.class_count else None
        boxes, scores = _boxes_and_scores(outputs, context, "detr", columns)
        if boxes.shape[0] < 1 or scores.shape[2] < 2 or (columns and scores.shape[2] != columns):
            raise unexpected(
                outputs, "detr", f"boxes (batch, queries, 4) and {columns or 'classes + 1'} scores a query"
            )
        probabilities = as_distribution(scores[0])
        return _candidates(boxes[0], probabilities[:, :-1], score_threshold, context, "detr")


def as_distribution(values: AnyArray) -> Float32Array:
    """Rows that add up to 1 as they are, others through softmax; raises OutputError when they are not finite."""
    require_finite(values, "scores")
    single = values.astype(np.float32, copy=False)
    # Half precision rounds a thousand small terms: a hundredth is more than that and less than logits differ by.
    is_one = bool((single >= 0).all()) and bool(np.abs(single.sum(axis=-1) - 1).max(initial=0) < 0.01)
    return single if is_one else softmax(single)


def _probabilities(values: AnyArray) -> Float32Array:
    require_finite(values, "scores")
    single = values.astype(np.float32, copy=False)
    return single if bool(((single >= 0) & (single <= 1)).all()) else sigmoid(single)


def _score_columns(outputs: Sequence[TensorSpec]) -> int | None:
    """The last axis of the scores of two outputs, one of which holds boxes."""
    if len(outputs) != 2 or any(len(o.shape) != 3 for o in outputs):
        return None
    first, second = (o.shape for o in outputs)
    if first[1] != second[1] and None not in (first[1], second[1]):
        return None
    sizes = [first[2], second[2]]
    if 4 not in sizes:
        return None
    sizes.remove(4)
    return sizes[0]


def _boxes_and_scores(
    outputs: Sequence[AnyArray], context: HeadContext, head: str, columns: int | None
) -> tuple[AnyArray, AnyArray]:
    """Which output is which: by the last axis; where both have four columns by the outputs' names, else by values."""
    expected = f"boxes (batch, queries, 4) and {columns or 'class'} scores a query, in either order"
    if len(outputs) != 2 or any(o.ndim != 3 for o in outputs) or outputs[0].shape[:2] != outputs[1].shape[:2]:
        raise unexpected(outputs, head, expected)
    candidates = [i for i, output in enumerate(outputs) if output.shape[2] == 4]
    if len(candidates) == 2:
        named = [i for i, name in enumerate(context.output_names) if "box" in name.lower()]
        candidates = named or [i for i, output in enumerate(outputs) if ((output >= 0) & (output <= 1)).all()]
        expected = "one output whose name contains `box`, since both have four columns and fractions"
    if len(candidates) != 1 or outputs[1 - candidates[0]].shape[2] < 1:
        raise unexpected(outputs, head, expected)
    return outputs[candidates[0]], outputs[1 - candidates[0]]


def _candidates(
    boxes: AnyArray, probabilities: Float32Array, score_threshold: float, context: HeadContext, head: str
) -> Candidates:
    chosen, scores, class_ids = best_classes(probabilities, score_threshold)
    fractions = boxes[chosen].astype(np.float32, copy=False)
    require_finite(fractions, "boxes")
    require_normalised(fractions, head)
    size = np.array([context.width, context.height] * 2, np.float32)
    return Candidates(centered_to_corners(fractions) * size, scores, class_ids)
