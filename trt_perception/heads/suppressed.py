"""Networks whose graph ends in suppression and gives boxes, labels and scores apart: torchvision, SSD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_perception.errors import OutputError
from trt_perception.heads.base import (
    Candidates,
    HeadContext,
    require_classes,
    require_finite,
    require_normalised,
    unexpected,
)
from trt_perception.types import AnyArray, TensorSpec


class TorchvisionHead:
    """torchvision's detection models: boxes (N, 4) in network pixels, labels (N,), scores (N,), in any order.

    Labels count the background as 0, so the list of labels begins with it, as torchvision's own list does. Outputs
    with a batch axis in front are taken too.
    """

    needs_nms = False
    batched = False
    layout = "boxes (N, 4), labels (N,), scores (N,)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By boxes, whole numbers and scores without a batch axis."""
        return _fits(outputs, axes_before=0)

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode; refuses boxes that are fractions of the input."""
        found = _decode(outputs, score_threshold, context, "torchvision", self.layout)
        if found.boxes_xyxy.size and float(np.abs(found.boxes_xyxy).max()) <= 1.0:
            raise OutputError(
                "every box of the network lies within one pixel; the torchvision head expects pixels, and these are "
                "fractions of the input: use `head: ssd`"
            )
        return found


class SsdHead:
    """SSD: boxes (batch, N, 4) left, top, right, bottom as fractions of the input, labels and scores (batch, N)."""

    needs_nms = False
    batched = True
    layout = "boxes (batch, N, 4), labels (batch, N), scores (batch, N)"

    def fits(self, outputs: Sequence[TensorSpec], context: HeadContext) -> str | None:
        """By boxes, whole numbers and scores with a batch axis."""
        return _fits(outputs, axes_before=1)

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext) -> Candidates:
        """See Head.decode; refuses boxes in pixels."""
        found = _decode(outputs, score_threshold, context, "ssd", self.layout)
        require_normalised(found.boxes_xyxy, "ssd")
        size = np.array([context.width, context.height] * 2, np.float32)
        return Candidates(found.boxes_xyxy * size, found.scores, found.class_ids)


def _fits(outputs: Sequence[TensorSpec], axes_before: int) -> str | None:
    boxes = [o for o in outputs if len(o.shape) == axes_before + 2 and o.shape[-1] == 4]
    others = [o for o in outputs if len(o.shape) == axes_before + 1]
    whole = [o for o in others if "int" in o.dtype]
    if (len(outputs), len(boxes), len(others), len(whole)) != (3, 1, 2, 1):
        return None
    return f"{boxes[0].name} holds boxes, {whole[0].name} whole numbers, and there are scores"


def _decode(
    outputs: Sequence[AnyArray], score_threshold: float, context: HeadContext, head: str, layout: str
) -> Candidates:
    boxes = [o for o in outputs if o.ndim in (2, 3) and o.shape[-1] == 4 and o.dtype.kind == "f"]
    labels = [o for o in outputs if o.dtype.kind in "iu"]
    scores = [o for o in outputs if o.dtype.kind == "f" and all(o is not b for b in boxes)]
    # A batch of scores for four boxes looks like boxes, except that its labels have as many axes.
    if len(boxes) == 2 and len(labels) == 1:
        scores = [o for o in boxes if o.ndim == labels[0].ndim]
        boxes = [o for o in boxes if o.ndim == labels[0].ndim + 1]
    if (len(outputs), len(boxes), len(labels), len(scores)) != (3, 1, 1, 1):
        raise unexpected(outputs, head, f"{layout}, the labels as integers")
    if not boxes[0].shape[:-1] == labels[0].shape == scores[0].shape:
        raise unexpected(outputs, head, layout)
    if boxes[0].ndim == 3:
        if boxes[0].shape[0] < 1:
            raise unexpected(outputs, head, layout)
        boxes, labels, scores = [boxes[0][0]], [labels[0][0]], [scores[0][0]]
    require_finite(scores[0], "scores")
    chosen = scores[0] > score_threshold
    picked = boxes[0][chosen].astype(np.float32, copy=False)
    require_finite(picked, "boxes")
    class_ids = require_classes(labels[0][chosen], context.class_count, head)
    return Candidates(picked, scores[0][chosen].astype(np.float32, copy=False), class_ids)
