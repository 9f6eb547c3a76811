"""YOLOv8, v9, v11 and v12 as Ultralytics exports them: (batch, 4 + classes, anchors)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.errors import OutputError
from trt_perception.heads.base import Candidates, describe_shapes, require_finite
from trt_perception.types import AnyArray


class Yolov8Head:
    """Rows 0 to 3 are the box's centre, width and height in network pixels, the others one score a class."""

    needs_nms = True

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, class_count: int) -> Candidates:
        """See Head.decode; a box has the class of its highest score, as in Ultralytics' prediction."""
        output = outputs[0] if outputs else np.zeros(0)
        fits = output.ndim == 3 and output.shape[0] >= 1 and output.shape[1] >= 5
        if not fits or (class_count and output.shape[1] != 4 + class_count):
            rows = 4 + class_count if class_count else "4 + classes"
            raise OutputError(
                f"the network gave {describe_shapes(outputs)}; the yolov8 head expects (batch, {rows}, anchors): "
                "correct `labels` or `head` in the model file"
            )
        prediction = output[0]
        best = prediction[4:].max(axis=0)
        # A NaN anywhere in a column makes its maximum NaN, so looking at the maxima is enough.
        require_finite(best, "scores")
        chosen = np.flatnonzero(best > score_threshold)
        picked = prediction[:, chosen].astype(np.float32, copy=False)
        require_finite(picked[:4], "boxes")
        center_x, center_y, width, height = picked[:4]
        boxes = np.stack(
            (center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2), axis=1
        )
        return Candidates(boxes, best[chosen].astype(np.float32, copy=False), picked[4:].argmax(axis=0))
