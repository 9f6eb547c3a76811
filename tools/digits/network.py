"""The network: a small anchor-free detector made of few plain convolutions, batch norm and ReLU.

On a GPU every layer of a network this small costs a launch of about 2 us whatever it computes, so the network has few
of them, and none that runtimes are slow at: 3x3 and 1x1 convolutions, each with its ReLU and at most one addition,
which runtimes fuse; two nearest-neighbour enlargements; and one formula for all outputs.

A backbone reaches strides 8, 16 and 32; what the coarse levels know is added to the finer ones; each level's head
predicts, for every cell, the class scores and a box relative to the cell's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASS_COUNT = 10
ROWS = 4 + CLASS_COUNT
STRIDES_PX = (8, 16, 32)
MAX_STRIDE_PX = 32

_NECK_WIDTH = 48
_HEAD_WIDTH = 48
# A centre lies at most this far from the cell's, to either side; a box is at most this large.
_REACH_STRIDES = 8.0
_LARGEST_STRIDES = 20.0
# Biases of the heads: few cells claim a digit and boxes have a middling size, or the first steps are spent on that.
_PRIOR_SCORE = -4.6
_PRIOR_SIZE = -1.7


@dataclass(frozen=True)
class Predictions:
    """What the network says about a batch, for loss functions: one row per cell of all levels, finest level first.

    logits: (B, A, 10) class scores before the sigmoid. boxes_cxcywh: (B, A, 4) in pixels of the input.
    """

    logits: Tensor
    boxes_cxcywh: Tensor


class ConvUnit(nn.Module):
    """Convolution, batch norm, at most one addition, ReLU (`relu`); `residual` adds the unit's own input."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, residual: bool = False, relu: bool = True
    ) -> None:
        super().__init__()
        self.convolution: nn.Module = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self._residual = residual
        self._relu = relu

    def forward(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride); addend has the result's shape."""
        y: Tensor = self.norm(self.convolution(x))
        if self._residual:
            y = y + x
        if addend is not None:
            y = y + addend
        return functional.relu(y) if self._relu else y


def stage(inputs: int, width: int, repeats: int) -> nn.Sequential:
    """Halves the resolution, then refines `repeats` times."""
    return nn.Sequential(
        ConvUnit(inputs, width, stride=2), *(ConvUnit(width, width, residual=True) for _ in range(repeats))
    )


def level_head(inputs: int) -> nn.Sequential:
    """(B, inputs, H, W) to the raw box and the class logits of each cell, (B, 14, H, W)."""
    last = nn.Conv2d(_HEAD_WIDTH, ROWS, 1)
    assert last.bias is not None
    nn.init.normal_(last.weight, std=0.01)
    nn.init.constant_(last.bias, _PRIOR_SCORE)
    nn.init.zeros_(last.bias[:2])
    nn.init.constant_(last.bias[2:4], _PRIOR_SIZE)
    return nn.Sequential(ConvUnit(inputs, _HEAD_WIDTH), last)


class DigitNet(nn.Module):
    """The detector; its input is RGB, 0 to 1, (B, 3, H, W) with H and W multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.to_stride_8 = nn.Sequential(ConvUnit(3, 16, stride=2), stage(16, 24, 1), stage(24, 48, 1))
        self.to_stride_16 = stage(48, 80, 2)
        self.to_stride_32 = stage(80, 128, 2)
        self.coarse_to_middle = ConvUnit(128, 80, 1, relu=False)
        self.neck_middle = ConvUnit(80, 80)
        self.middle_to_fine = ConvUnit(80, _NECK_WIDTH, 1, relu=False)
        self.neck_fine = ConvUnit(48, _NECK_WIDTH)
        self.heads = nn.ModuleList(level_head(width) for width in (_NECK_WIDTH, 80, 128))

    def levels(self, images: Tensor) -> list[Tensor]:
        """Returns each level's raw outputs, as level_head does, finest first."""
        fine = self.to_stride_8(images)
        middle = self.to_stride_16(fine)
        coarse = self.to_stride_32(middle)
        middle = self.neck_middle(middle, _enlarged(self.coarse_to_middle(coarse)))
        fine = self.neck_fine(fine, _enlarged(self.middle_to_fine(middle)))
        return [head(level) for head, level in zip(self.heads, (fine, middle, coarse), strict=True)]

    def forward(self, images: Tensor) -> Predictions:
        """Predicts for a batch of any size and any height and width that are multiples of 32."""
        levels = self.levels(images)
        raw = torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)
        scale, offset = decoding([(level.shape[2], level.shape[3]) for level in levels], raw.device)
        boxes = decode(raw[..., :4].float(), scale.T[:, :4], offset.T[:, :4])
        return Predictions(raw[..., 4:], boxes)


def _enlarged(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def cell_centers(sizes_hw: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the cells' centres (2, A), x then y, and strides (1, A), both in pixels, for levels of these sizes."""
    centers, strides = [], []
    for (height, width), stride in zip(sizes_hw, STRIDES_PX, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers.append((torch.stack([x, y]).flatten(1) + 0.5) * stride)
        strides.append(torch.full((1, height * width), float(stride)))
    return torch.cat(centers, dim=1).to(device), torch.cat(strides, dim=1).to(device)


def decoding(sizes_hw: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns scale and offset (14, A) of `decode` for all rows of all cells, for levels of these sizes."""
    centers, strides = cell_centers(sizes_hw, device)
    rows = torch.ones(CLASS_COUNT, strides.shape[1], device=device)
    scale = torch.cat([(2 * _REACH_STRIDES * strides).expand(2, -1), (_LARGEST_STRIDES * strides).expand(2, -1), rows])
    offset = torch.cat([centers - _REACH_STRIDES * strides, torch.zeros_like(centers), 0 * rows])
    return scale, offset


def decode(raw: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Raw outputs to centre x, centre y, width, height in pixels and class scores; shapes broadcast.

    A centre is an offset from the cell's centre, because a thin digit may lie between the centres of all cells; a size
    is a share of the largest; a score is its own sigmoid. One formula for all, so that it is one layer.
    """
    return raw.sigmoid() * scale + offset
