"""The network: a small anchor-free detector made of few plain convolutions, batch norm and ReLU.

On a GPU every layer of a network this small costs a launch of about 2 us whatever it computes, so the network has few
of them, and none that runtimes are slow at: 3x3 and 1x1 convolutions, each with its ReLU and at most one addition,
which runtimes fuse; two nearest-neighbour enlargements; and one formula for all outputs.

A backbone reaches stride 32; what the coarse levels know is added to the finer ones; at stride 8 a single head
predicts, for every cell, the class scores and a box around it, of whatever size. Levels of their own for large boxes
would cost further layers, and found less in the same time of training.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASS_COUNT = 10
ROWS = 4 + CLASS_COUNT
STRIDE_PX = 8
MAX_STRIDE_PX = 32

# Widths by stride. Whole blocks of 16 channels, the least that an AVX-512 or a tensor core computes.
_WIDTHS = {2: 16, 4: 32, 8: 48, 16: 80, 32: 112}
_HEAD_WIDTH = 64
# A box's centre lies at most this far from its cell's, to either side; a box is at most this large.
_REACH_PX = 64.0
_LARGEST_PX = 288.0
# Biases of the head: few cells claim a digit and boxes have a middling size, or the first steps are spent on that.
_PRIOR_SCORE = -4.6
_PRIOR_SIZE = -1.7


@dataclass(frozen=True)
class Predictions:
    """What the network says about a batch, for loss functions: one row per cell, line by line.

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


class Head(nn.Sequential):
    """(B, inputs, H, W) to the raw box and the class logits of each cell, (B, 14, H, W)."""

    def __init__(self, inputs: int) -> None:
        last = nn.Conv2d(_HEAD_WIDTH, ROWS, 1)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, _PRIOR_SCORE)
        nn.init.zeros_(last.bias[:2])
        nn.init.constant_(last.bias[2:4], _PRIOR_SIZE)
        super().__init__(ConvUnit(inputs, _HEAD_WIDTH), last)


class DigitNet(nn.Module):
    """The detector; its input is RGB, 0 to 1, (B, 3, H, W) with H and W multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        width = _WIDTHS
        self.to_stride_8 = nn.Sequential(
            ConvUnit(3, width[2], stride=2), ConvUnit(width[2], width[4], stride=2), stage(width[4], width[8], 2)
        )
        self.to_stride_16 = stage(width[8], width[16], 2)
        self.to_stride_32 = stage(width[16], width[32], 2)
        self.coarse_to_middle = ConvUnit(width[32], width[16], 1, relu=False)
        self.neck_middle = ConvUnit(width[16], width[16])
        self.middle_to_fine = ConvUnit(width[16], _HEAD_WIDTH, 1, relu=False)
        self.neck_fine = ConvUnit(width[8], _HEAD_WIDTH)
        self.head = Head(_HEAD_WIDTH)

    def raw(self, images: Tensor) -> Tensor:
        """Returns the head's output, (B, 14, H / 8, W / 8)."""
        fine = self.to_stride_8(images)
        middle = self.to_stride_16(fine)
        coarse = self.to_stride_32(middle)
        middle = self.neck_middle(middle, _enlarged(self.coarse_to_middle(coarse)))
        fine = self.neck_fine(fine, _enlarged(self.middle_to_fine(middle)))
        found: Tensor = self.head(fine)
        return found

    def forward(self, images: Tensor) -> Predictions:
        """Predicts for a batch of any size and any height and width that are multiples of 32."""
        raw = self.raw(images)
        scale, offset = decoding(raw.shape[2], raw.shape[3], raw.device)
        rows = raw.flatten(2).transpose(1, 2)
        return Predictions(rows[..., 4:], decode(rows[..., :4].float(), scale[:, :4], offset[:, :4]))


def _enlarged(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


@functools.lru_cache(maxsize=8)
def cell_centers(height: int, width: int, device: torch.device) -> Tensor:
    """Returns the centres of height x width cells, (A, 2), x then y, in pixels."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((torch.stack([x, y], dim=2).reshape(-1, 2) + 0.5) * STRIDE_PX).to(device)


@functools.lru_cache(maxsize=8)
def decoding(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns scale and offset, (A, 14) each, of `decode` for height x width cells."""
    centers = cell_centers(height, width, device)
    scores = torch.ones(len(centers), CLASS_COUNT, device=device)
    scale = torch.cat([torch.full_like(centers, 2 * _REACH_PX), torch.full_like(centers, _LARGEST_PX), scores], dim=1)
    offset = torch.cat([centers - _REACH_PX, torch.zeros_like(centers), torch.zeros_like(scores)], dim=1)
    return scale, offset


def decode(raw: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Raw outputs to centre x, centre y, width, height in pixels and class scores; shapes broadcast.

    A centre is an offset from the cell's centre, because a thin digit may lie between the centres of all cells; a size
    is a share of the largest; a score is its own sigmoid. One formula for all, so that it is one layer.
    """
    return raw.sigmoid() * scale + offset
