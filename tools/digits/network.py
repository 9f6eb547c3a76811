"""The network: a small anchor-free detector, all convolution, batch norm and ReLU, so that every runtime fuses it.

A residual backbone reaches strides 8, 16 and 32; a top-down neck brings what the coarse levels know to the fine one;
each level's head predicts, for every cell, the class scores and a box relative to the cell's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASS_COUNT = 10
STRIDES_PX = (8, 16, 32)
MAX_STRIDE_PX = 32

_NECK_WIDTH = 48
_PRIOR_SCORE = 0.01  # start with few cells claiming a digit, or the first steps are spent on unlearning it
_PRIOR_SIZE_STRIDES = 3.0


@dataclass(frozen=True)
class Predictions:
    """What the network says about a batch, for loss functions: one row per cell of all levels, finest level first.

    logits: (B, A, 10) class scores before the sigmoid. boxes_cxcywh: (B, A, 4) in pixels of the input.
    """

    logits: Tensor
    boxes_cxcywh: Tensor


class ConvUnit(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; `groups=width` makes it depthwise."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class SeparableUnit(nn.Sequential):
    """A depthwise 3x3 convolution, then a 1x1: nearly a 3x3 convolution for a ninth of its work."""

    def __init__(self, width: int) -> None:
        super().__init__(ConvUnit(width, width, 3, groups=width), ConvUnit(width, width, 1))


class Residual(nn.Module):
    """Two 3x3 convolutions around a bottleneck of half the width, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvUnit(width, width // 2, 3), ConvUnit(width // 2, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        refined: Tensor = x + self.body(x)
        return refined


class LevelHead(nn.Module):
    """Scores and boxes of one level, from two branches that do not share weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scores = nn.Sequential(SeparableUnit(width), SeparableUnit(width), nn.Conv2d(width, CLASS_COUNT, 1))
        self.box = nn.Sequential(SeparableUnit(width), SeparableUnit(width), nn.Conv2d(width, 4, 1))
        final_scores, final_box = self.scores[-1], self.box[-1]
        assert isinstance(final_scores, nn.Conv2d) and isinstance(final_box, nn.Conv2d)
        assert final_scores.bias is not None and final_box.bias is not None
        nn.init.constant_(final_scores.bias, -torch.log(torch.tensor(1 / _PRIOR_SCORE - 1)).item())
        nn.init.zeros_(final_box.bias)
        nn.init.constant_(final_box.bias[2:], _PRIOR_SIZE_STRIDES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, H, W) to logits (B, 10, H, W) and raw boxes (B, 4, H, W)."""
        return self.scores(x), self.box(x)


class DigitNet(nn.Module):
    """The detector; its input is RGB, 0 to 1, (B, 3, H, W) with H and W multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.to_stride_8 = nn.Sequential(
            ConvUnit(3, 16, 3, 2),
            ConvUnit(16, 24, 3, 2),
            Residual(24),
            ConvUnit(24, 48, 3, 2),
            Residual(48),
            Residual(48),
        )
        self.to_stride_16 = nn.Sequential(ConvUnit(48, 80, 3, 2), Residual(80), Residual(80))
        self.to_stride_32 = nn.Sequential(ConvUnit(80, 112, 3, 2), Residual(112))
        self.laterals = nn.ModuleList(ConvUnit(width, _NECK_WIDTH, 1) for width in (48, 80, 112))
        self.smoothers = nn.ModuleList(SeparableUnit(_NECK_WIDTH) for _ in STRIDES_PX)
        self.heads = nn.ModuleList(LevelHead(_NECK_WIDTH) for _ in STRIDES_PX)

    def levels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns logits and raw boxes per level, as LevelHead does, finest first."""
        fine = self.to_stride_8(images)
        middle = self.to_stride_16(fine)
        coarse = self.to_stride_32(middle)
        lateral_fine, lateral_middle, lateral_coarse = (
            lateral(features) for lateral, features in zip(self.laterals, (fine, middle, coarse), strict=True)
        )
        neck_middle = lateral_middle + functional.interpolate(lateral_coarse, scale_factor=2.0, mode="nearest")
        neck_fine = lateral_fine + functional.interpolate(neck_middle, scale_factor=2.0, mode="nearest")
        necks = (neck_fine, neck_middle, lateral_coarse)
        return [head(smoother(neck)) for head, smoother, neck in zip(self.heads, self.smoothers, necks, strict=True)]

    def forward(self, images: Tensor) -> Predictions:
        """Predicts for a batch of any size and any height and width that are multiples of 32."""
        levels = self.levels(images)
        logits = torch.cat([scores.flatten(2) for scores, _ in levels], dim=2)
        raw = torch.cat([box.flatten(2) for _, box in levels], dim=2)
        centers, strides = cell_centers([(scores.shape[2], scores.shape[3]) for scores, _ in levels], raw.device)
        return Predictions(logits.transpose(1, 2), decode_boxes(raw.float(), centers, strides).transpose(1, 2))


def cell_centers(sizes_hw: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the cells' centres (2, A), x then y, and strides (1, A), both in pixels, for levels of these sizes."""
    centers, strides = [], []
    for (height, width), stride in zip(sizes_hw, STRIDES_PX, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers.append((torch.stack([x, y]).flatten(1) + 0.5) * stride)
        strides.append(torch.full((1, height * width), float(stride)))
    return torch.cat(centers, dim=1).to(device), torch.cat(strides, dim=1).to(device)


def decode_boxes(raw: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Turns raw boxes (B, 4, A) into centre x, y, width and height in pixels, (B, 4, A).

    A centre is an offset from the cell's centre and a size is always positive, both in strides. Offsets rather than
    distances to the sides, because a thin digit may lie between the centres of all cells.
    """
    xy = centers + raw[:, :2] * strides
    wh = functional.softplus(raw[:, 2:]) * strides
    return torch.cat([xy, wh], dim=1)
