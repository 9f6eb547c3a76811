"""Networks that choose their boxes themselves: YOLOv10, YOLO26, and Ultralytics exports with nms: (batch, K, 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.heads.base import Candidates, HeadContext, require_classes, require_finite, unexpected
from trt_perception.types import AnyArray, TensorSpec

# They keep 300 by default; what has thousands of rows is one row an anchor.
MAX_ROWS = 1000


class EndToEndHead:
    """Columns: left, top, right, bottom in network pixels, score, class. Rows of score 0 fill the tensor up."""

    needs_nms = False
    batched = True
    layout = "(batch, boxes, 6)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By six columns and few rows."""
        if len(outputs) != 1 or len(outputs[0].shape) != 3:
            return None
        _, rows, columns = outputs[0].shape
        if columns != 6 or (rows is not None and not 1 <= rows <= MAX_ROWS):
            return None
        return f"six columns (box, score, class) in {rows if rows else 'a free number of'} rows"

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode; the class must be a whole number, which tells these outputs from other sixes."""
        output = outputs[0] if len(outputs) == 1 else np.zeros(0)
        if output.ndim != 3 or output.shape[0] < 1 or output.shape[2] != 6:
            raise unexpected(outputs, "end_to_end", "(batch, boxes, 6)")
        rows = output[0]
        require_finite(rows[:, 4], "scores")
        picked = rows[rows[:, 4] > score_threshold].astype(np.float32, copy=False)
        require_finite(picked, "boxes")
        return Candidates(picked[:, :4], picked[:, 4], require_classes(picked[:, 5], context.class_count, "end_to_end"))
