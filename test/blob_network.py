"""A network that finds a red, a green and a blue rectangle, and says so in the layout of any head.

Its boxes are the extents of the coloured pixels, so what must come out for a picture is known from how it was painted.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_perception.types import Float32Array, Uint8Array

if TYPE_CHECKING:
    import torch

WIDTH_PX, HEIGHT_PX = 672, 384
NAMES = ("red", "green", "blue")
SCORE = 0.9
_CELLS = sum((WIDTH_PX // s) * (HEIGHT_PX // s) for s in (8, 16, 32))
_LOGIT = float(np.log(SCORE / (1 - SCORE)))


@dataclass(frozen=True)
class Layout:
    """How one family of networks gives its results: the head, the outputs' names, the labels in their order."""

    head: str
    outputs: tuple[str, ...]
    labels: tuple[str, ...] = NAMES


LAYOUTS = {
    "yolov8": Layout("yolov8", ("output0",)),
    "yolov5": Layout("yolov5", ("output",)),
    "yolox": Layout("yolox", ("output",)),
    "end_to_end": Layout("end_to_end", ("output0",)),
    "rtdetr": Layout("rtdetr", ("logits", "pred_boxes")),
    "rtdetr, boxes first": Layout("rtdetr", ("pred_boxes", "logits")),
    "rtdetr, joined probabilities": Layout("rtdetr", ("output0",)),
    "detr": Layout("detr", ("logits", "pred_boxes")),
    "detr, boxes first": Layout("detr", ("pred_boxes", "logits")),
    "torchvision": Layout("torchvision", ("boxes", "labels", "scores"), ("__background__", *NAMES)),
    "ssd": Layout("ssd", ("boxes", "labels", "scores"), ("__background__", *NAMES)),
    "efficient_nms": Layout("efficient_nms", ("num_dets", "det_boxes", "det_scores", "det_classes")),
}


def network(layout: str) -> torch.nn.Module:
    """Takes (batch, 3, 384, 672), RGB from 0 to 1."""
    import torch

    class Finder(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> Any:
            # Coloured where one channel is far above both others; the grey border and background are not.
            others = torch.stack((images[:, 1:].amax(1), images[:, 0::2].amax(1), images[:, :2].amax(1)), dim=1)
            mask = ((images - others) > 0.5).float()
            width, height = images.shape[3], images.shape[2]
            x = torch.arange(width).float()
            y = torch.arange(height).float()
            columns, rows = mask.amax(2), mask.amax(3)
            right, bottom = (columns * (x + 1)).amax(2), (rows * (y + 1)).amax(2)
            left = width - (columns * (width - x)).amax(2)
            top = height - (rows * (height - y)).amax(2)
            score = columns.amax(2) * SCORE
            return arrange(layout, torch.stack((left, top, right, bottom), dim=2), score)

    return Finder().eval()


def arrange(layout: str, corners: torch.Tensor, score: torch.Tensor) -> Any:
    """corners (batch, 3, 4) in pixels and score (batch, 3) of each class, as the layout has it."""
    import torch

    size = corners[:, :, 2:] - corners[:, :, :2]
    centered = torch.cat((corners[:, :, :2] + size / 2, size), dim=2)
    scale = torch.tensor([WIDTH_PX, HEIGHT_PX] * 2).float()
    one_hot = torch.eye(3).unsqueeze(0) * score.unsqueeze(2)
    present = (score > 0).float()
    numbers = torch.arange(3).unsqueeze(0) + torch.zeros_like(score).long()
    padding = torch.zeros_like(corners[:, :1, :1])
    logits = one_hot * (2 * _LOGIT / SCORE) - _LOGIT
    boxes = centered / scale
    if layout == "yolov8":
        return torch.cat((centered, one_hot), dim=2).transpose(1, 2)
    if layout == "yolov5":
        found = torch.cat((centered, present.unsqueeze(2), one_hot), dim=2)
        return torch.cat((found, padding.expand(-1, 3 * _CELLS - 3, 8)), dim=1)
    if layout == "yolox":
        cell = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
        raw = torch.cat((centered[:, :, :2] / 8 - cell, (size / 8).clamp(min=1e-3).log()), dim=2)
        found = torch.cat((raw, present.unsqueeze(2), one_hot), dim=2)
        return torch.cat((found, padding.expand(-1, _CELLS - 3, 8)), dim=1)
    if layout == "end_to_end":
        return torch.cat((corners, score.unsqueeze(2), numbers.float().unsqueeze(2)), dim=2)
    if layout.startswith("rtdetr"):
        if "joined" in layout:
            return torch.cat((boxes, one_hot), dim=2)
        return (boxes, logits) if "boxes first" in layout else (logits, boxes)
    if layout.startswith("detr"):
        nothing = (1 - one_hot.sum(2, keepdim=True)).clamp(min=1e-6)
        classes = torch.cat((one_hot.clamp(min=1e-6), nothing), dim=2).log() + 3.0
        return (boxes, classes) if "boxes first" in layout else (classes, boxes)
    if layout == "torchvision":
        return corners[0], numbers[0] + 1, score[0]
    if layout == "ssd":
        return corners / scale, numbers + 1, score
    count = torch.full_like(numbers[:, :1], 3)
    return count.int(), corners, score, numbers.int()


def write_onnx(
    path: Path, layout: str, metadata: Mapping[str, object], *, free_size: bool = False, fixed_batch: int = 0
) -> None:
    """Exports it with a free batch axis unless that is fixed, and with free width and height where asked for."""
    import torch

    example = torch.zeros(fixed_batch or 1, 3, HEIGHT_PX, WIDTH_PX)
    free = {0: "batch"} if not fixed_batch else {}
    free_of_input = {**free, **({2: "height", 3: "width"} if free_size else {})}
    _export(path, network(layout), example, LAYOUTS[layout].outputs, metadata, free, free_of_input)


def _export(
    path: Path,
    module: torch.nn.Module,
    example: torch.Tensor,
    outputs: Sequence[str],
    metadata: Mapping[str, object],
    free: Mapping[int, str],
    free_of_input: Mapping[int, str],
) -> None:
    import onnx
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            str(path),
            opset_version=17,
            input_names=["images"],
            output_names=list(outputs),
            dynamic_axes={"images": dict(free_of_input), **{name: dict(free) for name in outputs}},
            dynamo=False,
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    onnx.save(model, str(path))


def paint(width: int, height: int, boxes: Mapping[str, Sequence[int]]) -> Uint8Array:
    """A grey BGR picture with a rectangle (left, top, right, bottom) of each of the named colours."""
    picture = np.full((height, width, 3), 110, np.uint8)
    for name, (left, top, right, bottom) in boxes.items():
        picture[top:bottom, left:right] = 0
        picture[top:bottom, left:right, 2 - NAMES.index(name)] = 255
    return picture


def placements(width: int, height: int) -> dict[str, tuple[int, int, int, int]]:
    """Where the rectangles are in a picture of that size; the blue one is absent, the green one touches the border."""
    return {
        "red": (width // 10, height // 8, width // 3, height // 2),
        "green": (width * 5 // 8, height * 2 // 5, width, height * 9 // 10),
    }


def as_rows(boxes: Mapping[str, Sequence[int]]) -> Float32Array:
    return np.array(list(boxes.values()), np.float32)


def write_classifier(path: Path, metadata: Mapping[str, object]) -> None:
    """A classifier of 64x64 pictures whose logits are four times the mean of each colour."""
    import torch

    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 4 * images.mean((2, 3))

    free = {0: "batch"}
    _export(path, Mean().eval(), torch.zeros(1, 3, 64, 64), ("output0",), metadata, free, free)
