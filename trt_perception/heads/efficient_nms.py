"""Networks that end in TensorRT's EfficientNMS plugin, or in nodes that give the same outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.errors import OutputError
from trt_perception.heads.base import Candidates, HeadContext, require_classes, require_finite, unexpected
from trt_perception.types import AnyArray, TensorSpec


class EfficientNmsHead:
    """Number of boxes (batch, 1), boxes (batch, K, 4) in network pixels, scores (batch, K), classes (batch, K).

    What lies behind the number of boxes is not defined and is not read.
    """

    needs_nms = False
    batched = True
    layout = "number (batch, 1), boxes (batch, K, 4), scores (batch, K), classes (batch, K)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By four outputs, two of them whole numbers."""
        boxes = [o for o in outputs if len(o.shape) == 3 and o.shape[2] == 4]
        flat = [o for o in outputs if len(o.shape) == 2]
        whole = [o for o in flat if "int" in o.dtype]
        numbers = [o for o in whole if o.shape[1] == 1]
        if (len(outputs), len(boxes), len(flat), len(whole)) != (4, 1, 3, 2) or not numbers:
            return None
        return f"{numbers[0].name} counts the boxes of {boxes[0].name}, with scores and classes"

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode."""
        boxes = [o for o in outputs if o.ndim == 3 and o.shape[2] == 4]
        scores = [o for o in outputs if o.ndim == 2 and o.dtype.kind == "f"]
        whole = [o for o in outputs if o.ndim == 2 and o.dtype.kind in "iu"]
        if (len(outputs), len(boxes), len(scores), len(whole)) != (4, 1, 1, 2) or len(boxes[0]) < 1:
            raise unexpected(outputs, "efficient_nms", self.layout)
        # With room for one box both have one column, and the plugin gives the number first.
        numbers, classes = whole if whole[0].shape[1] == 1 else whole[::-1]
        if numbers.shape[1] != 1 or not boxes[0].shape[:2] == scores[0].shape == classes.shape:
            raise unexpected(outputs, "efficient_nms", self.layout)
        number = int(numbers[0, 0])
        if not 0 <= number <= scores[0].shape[1]:
            raise OutputError(
                f"the network gave {number} as the number of its boxes and has room for {scores[0].shape[1]}; these "
                "are not outputs of EfficientNMS: correct `head` in the model file"
            )
        of_boxes = scores[0][0, :number]
        require_finite(of_boxes, "scores")
        chosen = np.flatnonzero(of_boxes > score_threshold)
        picked = boxes[0][0, chosen].astype(np.float32, copy=False)
        require_finite(picked, "boxes")
        class_ids = require_classes(classes[0, chosen], context.class_count, "efficient_nms")
        return Candidates(picked, of_boxes[chosen].astype(np.float32, copy=False), class_ids)
