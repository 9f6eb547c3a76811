"""The boxes that count are chosen and decoded with torch's operators, so that only they leave the device.

For heads whose networks give a box for each of thousands of cells; the others' outputs are small as they are. What is
computed is what the heads of the same names compute on the host (heads/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from trt_perception.types import AnyArray

# A torch.Tensor; torch itself is not imported here.
Tensor: TypeAlias = Any

# Boxes that come down at most; where more count, the whole outputs do, and the host decodes them.
ROOM = 1024
_BOX_VALUES = 6
_HEADER_VALUES = 2


def _yolov8(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    (columns,) = outputs
    cells = columns.transpose(1, 2)
    return cells[:, :, :4], cells[:, :, 4:]


def _yolov5(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    (cells,) = (output for output in outputs if output.ndim == 3)
    return cells[:, :, :4], cells[:, :, 4:5] * cells[:, :, 5:]


# Head → what parts its outputs into boxes (batch, cells, 4) of centre, width and height in network pixels, and scores
# (batch, cells, classes). Raises ValueError for outputs of another number of axes.
_PARTS: dict[str, Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]] = {"yolov8": _yolov8, "yolov5": _yolov5}


def class_count(head: str, outputs: Sequence[Tensor]) -> int:
    """Classes in the outputs of that head, 0 where they or the head are not for the device."""
    if head not in _PARTS or any(output.ndim < 3 for output in outputs):
        return 0
    try:
        boxes, scores = _PARTS[head](outputs)
    except ValueError:
        return 0
    return int(scores.shape[2]) if boxes.shape[2] == 4 else 0


def choose_candidates(torch: Any, head: str, outputs: Sequence[Tensor], least_scores: Tensor) -> Tensor:
    """float32 (batch, 2 + 6 * room): how many boxes count, whether all is finite, and the boxes; see `read_candidates`.

    least_scores: float32 (classes,), what the score of a box's best class must exceed. Shapes depend on shapes alone,
    so that this can be recorded in a CUDA graph.
    """
    boxes, scores = _PARTS[head](outputs)
    best, class_ids = scores.max(dim=2)
    counts = best > least_scores[class_ids]
    number = counts.cumsum(1)
    batch, cells = best.shape
    room = min(ROOM, cells)
    # Each that counts goes to the place of its number, so that they stay in the network's order; the others go to one
    # place behind the last.
    places = (number - 1).masked_fill(~counts | (number > room), room)
    every = torch.arange(cells, device=best.device).expand(batch, -1)
    chosen = torch.zeros((batch, room + 1), dtype=torch.int64, device=best.device).scatter_(1, places, every)[:, :room]
    picked = boxes.gather(1, chosen[:, :, None].expand(-1, -1, 4))
    half = picked[:, :, 2:] / 2
    of_each = (best.gather(1, chosen)[:, :, None], class_ids.gather(1, chosen)[:, :, None].to(best.dtype))
    packed = torch.cat((picked[:, :, :2] - half, picked[:, :, :2] + half, *of_each), dim=2).flatten(1)
    finite = best.isfinite().all(1) & packed.isfinite().all(1)
    return torch.cat((number[:, -1:].to(best.dtype), finite[:, None].to(best.dtype), packed), dim=1)


def read_candidates(packed: AnyArray) -> AnyArray | None:
    """One frame's row of choose_candidates: float32 (N, 6), corners, score and class of each box that counts.

    None where there are more than fit, or where a value is not finite.
    """
    count, finite = int(packed[0]), bool(packed[1])
    boxes = packed[_HEADER_VALUES:].reshape(-1, _BOX_VALUES)
    return boxes[:count] if finite and count <= boxes.shape[0] else None
