"""YOLOv5 and v7, and others that decode their boxes themselves: (batch, anchors, 5 + classes) with objectness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.heads.base import (
    Candidates,
    HeadContext,
    best_products,
    centered_to_corners,
    column_maxima,
    require_finite,
    unexpected,
)
from trt_perception.heads.yolov8 import STRIDE_SETS
from trt_perception.types import AnyArray, TensorSpec

_ANCHORS_A_CELL = 3
_LEVEL_AXES = 5  # older exports give each level's grid as well: (batch, anchors a cell, rows, columns, 5 + classes)


class Yolov5Head:
    """Columns: the box's centre, width and height in network pixels, objectness, one score a class.

    A box's score is its objectness times the score of its best class.
    """

    needs_nms = True
    batched = True
    layout = "(batch, anchors, 5 + classes)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By three anchors for each cell of the grids."""
        flat = [o for o in outputs if len(o.shape) == 3]
        if len(flat) != 1 or any(len(o.shape) != _LEVEL_AXES for o in outputs if o is not flat[0]):
            return None
        _, anchors, columns = flat[0].shape
        if not columns_fit(columns, context.class_count):
            return None
        if anchors is None:
            return f"{columns} columns for 5 + {context.class_count} classes" if context.class_count else None
        if anchors and anchors in {_ANCHORS_A_CELL * context.cells(strides) for strides in STRIDE_SETS}:
            return f"{anchors} anchors, three for each cell at {context.width}x{context.height}, and {columns} columns"
        return None

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode."""
        flat = [o for o in outputs if o.ndim == 3]
        if len(flat) != 1 or flat[0].shape[0] < 1 or not columns_fit(flat[0].shape[2], context.class_count):
            raise unexpected(outputs, "yolov5", f"(batch, anchors, {columns_text(context.class_count)})")
        prediction = flat[0][0]
        chosen, scores, class_ids = best_products(prediction, column_maxima(prediction), score_threshold)
        boxes = prediction[chosen, :4].astype(np.float32, copy=False)
        require_finite(boxes, "boxes")
        return Candidates(centered_to_corners(boxes), scores, class_ids)


def columns_fit(columns: int | None, class_count: int) -> bool:
    """True for a box, its objectness and at least one class, or as many as are named."""
    return columns is not None and (columns == 5 + class_count if class_count else columns >= 6)


def columns_text(class_count: int) -> str:
    """The number of columns that is expected, for messages."""
    return str(5 + class_count) if class_count else "5 + classes"
