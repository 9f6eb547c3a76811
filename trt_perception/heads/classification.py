"""Classifiers: one score for each class of the whole picture, (batch, classes)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.heads.base import Candidates, HeadContext, unexpected
from trt_perception.heads.detr import as_distribution
from trt_perception.types import AnyArray, TensorSpec

TOP_CLASSES = 5


class ClassificationHead:
    """Probabilities, or logits where a row does not add up to 1.

    Gives one box over the whole picture with its best class, when that is above the threshold, and the four next best
    as its other classes, whatever their scores are.
    """

    needs_nms = False
    batched = True
    layout = "(batch, classes)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By two axes."""
        if len(outputs) != 1 or len(outputs[0].shape) != 2:
            return None
        classes = outputs[0].shape[1]
        if classes is None or classes < 2 or "float" not in outputs[0].dtype:
            return None
        if context.class_count and classes != context.class_count:
            return None
        return f"{classes} scores for the whole picture"

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode."""
        output = outputs[0] if len(outputs) == 1 else np.zeros(0)
        fits = output.ndim == 2 and output.shape[0] >= 1 and output.shape[1] >= 2
        if not fits or (context.class_count and output.shape[1] != context.class_count):
            raise unexpected(outputs, "classification", f"(batch, {context.class_count or 'classes'})")
        probabilities = as_distribution(output[:1])[0]
        order = np.argsort(-probabilities, kind="stable")[:TOP_CLASSES].astype(np.int64)
        if probabilities[order[0]] <= score_threshold:
            order = order[:0]
        rows = order[np.newaxis] if order.size else np.zeros((0, 1), np.int64)
        scores = probabilities[rows]
        boxes = np.tile(np.array([-np.inf, -np.inf, np.inf, np.inf], np.float32), (len(rows), 1))
        return Candidates(boxes, scores[:, 0], rows[:, 0], scores[:, 1:], rows[:, 1:])
