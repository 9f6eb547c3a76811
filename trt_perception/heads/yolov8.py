"""YOLOv8, v9, v11 and v12 as Ultralytics exports them: (batch, 4 + classes, anchors)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.heads.base import Candidates, HeadContext, centered_to_corners, require_finite, unexpected
from trt_perception.types import AnyArray, TensorSpec

# With the usual strides, one more above (P6) or below (P2): one anchor a cell.
STRIDE_SETS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))


class Yolov8Head:
    """Rows 0 to 3 are the box's centre, width and height in network pixels, the others one score a class."""

    needs_nms = True
    batched = True
    layout = "(batch, 4 + classes, anchors)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By the number of rows where the classes are named, else by the number of anchors."""
        if len(outputs) != 1 or len(outputs[0].shape) != 3:
            return None
        _, rows, anchors = outputs[0].shape
        if rows is None or rows < 5:
            return None
        if context.class_count:
            return f"{rows} rows for 4 + {context.class_count} classes" if rows == 4 + context.class_count else None
        if anchors and anchors in {context.cells(strides) for strides in STRIDE_SETS}:
            return f"{anchors} anchors, one for each cell at {context.width}x{context.height}, in columns"
        return None

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode; a box has the class of its highest score, as in Ultralytics' prediction."""
        output = outputs[0] if outputs else np.zeros(0)
        class_count = context.class_count
        fits = output.ndim == 3 and output.shape[0] >= 1 and output.shape[1] >= 5
        if not fits or (class_count and output.shape[1] != 4 + class_count):
            raise unexpected(
                outputs, "yolov8", f"(batch, {4 + class_count if class_count else '4 + classes'}, anchors)"
            )
        prediction = output[0]
        best = np.maximum.reduce(prediction[4:], axis=0)
        # A NaN anywhere in a column makes its maximum NaN, so looking at the largest is enough.
        require_finite(best, "scores")
        chosen = (best > score_threshold).nonzero()[0]
        picked = prediction.take(chosen, axis=1).astype(np.float32, copy=False)
        boxes = picked[:4]
        require_finite(boxes, "boxes")
        return Candidates(
            centered_to_corners(boxes.T), best[chosen].astype(np.float32, copy=False), picked[4:].argmax(axis=0)
        )
