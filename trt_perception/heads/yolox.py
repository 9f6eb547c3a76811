"""YOLOX as its own exporter leaves it: (batch, cells, 5 + classes), boxes still relative to the cells of the grids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from trt_perception.errors import OutputError
from trt_perception.heads.base import (
    Candidates,
    HeadContext,
    best_products,
    centered_to_corners,
    column_maxima,
    require_finite,
    unexpected,
)
from trt_perception.heads.yolov5 import columns_fit, columns_text
from trt_perception.types import AnyArray, Float32Array, TensorSpec

STRIDES = (8, 16, 32)
# exp(10) x 8 pixels: no raw size is as large, but nearly every size in pixels is.
_LARGEST_LOGARITHM = 10.0


class YoloxHead:
    """Columns: the centre's offset from its cell in cells, the logarithm of width and height in cells, scores.

    Ge et al., YOLOX: Exceeding YOLO Series in 2021, section 2.3: centre = (offset + cell) x stride, size =
    exp(raw) x stride; the grids follow one another with the finest first, row by row. The scores are objectness and
    one a class, both 0..1, and are multiplied.
    """

    needs_nms = True
    batched = True
    layout = "(batch, cells of strides 8, 16, 32, 5 + classes)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By one row for each cell of the grids."""
        if len(outputs) != 1 or len(outputs[0].shape) != 3:
            return None
        _, rows, columns = outputs[0].shape
        if not rows or rows != context.cells(STRIDES) or not columns_fit(columns, context.class_count):
            return None
        return f"{rows} rows, one for each cell at {context.width}x{context.height}, and {columns} columns"

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode; refuses boxes that the network has decoded already."""
        output = outputs[0] if len(outputs) == 1 else np.zeros(0)
        cells = context.cells(STRIDES)
        fits = output.ndim == 3 and output.shape[0] >= 1 and output.shape[1] == cells
        if not fits or not columns_fit(output.shape[2], context.class_count):
            raise unexpected(outputs, "yolox", f"(batch, {cells}, {columns_text(context.class_count)})")
        prediction = output[0]
        largest = column_maxima(prediction)
        if largest[2:4].max() > _LARGEST_LOGARITHM:
            raise OutputError(
                f"the network's box sizes reach {largest[2:4].max():.4g}; the yolox head expects logarithms, "
                "and these are pixels: the boxes are decoded already, so use `head: yolov5`"
            )
        chosen, scores, class_ids = best_products(prediction, largest, score_threshold)
        raw = prediction[chosen, :4].astype(np.float32)
        require_finite(raw, "boxes")
        corners_and_strides = _grid(context.width, context.height)[chosen]
        strides = corners_and_strides[:, 2:]
        centers = (raw[:, :2] + corners_and_strides[:, :2]) * strides
        return Candidates(
            centered_to_corners(np.concatenate((centers, np.exp(raw[:, 2:]) * strides), axis=1)), scores, class_ids
        )


@lru_cache(maxsize=8)
def _grid(width: int, height: int) -> Float32Array:
    """float32 (cells, 3): each cell's column and row in its grid, and the grid's stride."""
    levels = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        levels.append(np.stack((columns.ravel(), rows.ravel(), np.full(rows.size, stride)), axis=1))
    grid = np.concatenate(levels).astype(np.float32)
    grid.setflags(write=False)
    return grid
