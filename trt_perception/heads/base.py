"""What a head does: a network's raw outputs become candidate boxes in network pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trt_perception.errors import OutputError
from trt_perception.types import AnyArray, Float32Array, Int64Array


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes before suppression: float32 (N, 4) left, top, right, bottom in network pixels, scores 0..1, class ids."""

    boxes_xyxy: Float32Array
    scores: Float32Array
    class_ids: Int64Array


class Head(Protocol):
    """Decodes the outputs of one family of networks; holds nothing between frames."""

    needs_nms: bool

    def decode(self, outputs: Sequence[AnyArray], score_threshold: float, class_count: int) -> Candidates:
        """Candidates above the threshold of the first image of a batch.

        class_count is 0 when the model does not name its classes. Raises OutputError when the outputs do not have
        the shapes of this head or are not finite.
        """
        ...


def describe_shapes(outputs: Sequence[AnyArray]) -> str:
    """The outputs' types and shapes, for messages."""
    return ", ".join(f"{o.dtype}{tuple(o.shape)}" for o in outputs) or "nothing"


def require_finite(values: AnyArray, what: str) -> None:
    """Raises OutputError when a value is NaN or infinite: such a network must not look as if it saw nothing."""
    if not np.isfinite(values).all():
        raise OutputError(
            f"the network's {what} hold NaN or infinite values; check the weights, and with fp16 or int8 whether "
            "fp32 gives finite ones"
        )
