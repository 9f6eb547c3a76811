"""The loss: task-aligned assignment of cells to true boxes, binary cross-entropy for scores, complete IoU for boxes.

Sources: assignment as in C. Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021; box loss as in
Z. Zheng et al., "Distance-IoU Loss", AAAI 2020 (complete IoU).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tools.digits.network import CLASS_COUNT, Predictions

_CELLS_PER_BOX = 8
_SCORE_POWER = 0.5
_IOU_POWER = 6.0
_BOX_WEIGHT = 3.0
# Cells are 8 px apart: within 6 px of every point there is one, even where a box is thinner.
_SMALLEST_REACH_PX = 6.0


@dataclass(frozen=True)
class Targets:
    """True boxes of a batch, padded to the same number per image.

    boxes_cxcywh: (B, M, 4) pixels. class_ids: (B, M) int64. present: (B, M) bool, False for padding.
    """

    boxes_cxcywh: Tensor
    class_ids: Tensor
    present: Tensor


def detection_loss(predictions: Predictions, centers: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Returns the score loss and the weighted box loss, scalars to be added.

    centers: (A, 2), the cells' centres in pixels, in the order of the predictions.
    """
    owners, goals = _assign(predictions, centers, targets)
    total = goals.sum().clamp(min=1.0)
    score_loss = functional.binary_cross_entropy_with_logits(predictions.logits.float(), goals, reduction="sum") / total
    image, cell = torch.nonzero(owners >= 0, as_tuple=True)
    true_boxes = targets.boxes_cxcywh[image, owners[image, cell]]
    ciou = complete_iou(predictions.boxes_cxcywh[image, cell], true_boxes)
    weights = goals[image, cell].sum(dim=1)
    box_loss = ((1.0 - ciou) * weights).sum() / total
    return score_loss, _BOX_WEIGHT * box_loss


@torch.no_grad()
def _assign(predictions: Predictions, centers: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Gives each true box the few cells that already see it best.

    Returns owners (B, A) int64, the index of the true box or -1, and goals (B, A, 10), the score each cell should
    give: 0, or for the owned class up to the box's best IoU, in proportion to the cell's alignment.
    """
    scores = predictions.logits.float().sigmoid()
    batch, cells, _ = scores.shape
    boxes = targets.boxes_cxcywh
    iou = intersection_over_union(boxes[:, :, None], predictions.boxes_cxcywh[:, None])  # (B, M, A)
    of_class = torch.gather(scores.transpose(1, 2), 1, targets.class_ids[:, :, None].expand(-1, -1, cells))
    offset = (centers[None, None] - boxes[:, :, None, :2]).abs()
    reach = (boxes[:, :, None, 2:] / 2).clamp(min=_SMALLEST_REACH_PX)
    allowed = (offset <= reach).all(dim=-1) & targets.present[:, :, None]
    alignment = of_class.pow(_SCORE_POWER) * iou.pow(_IOU_POWER) * allowed
    # A hint of nearness ranks the cells while no prediction overlaps its box yet.
    ranking = (alignment + 1e-9 / (1.0 + offset.sum(dim=-1))) * allowed
    best = torch.zeros_like(allowed)
    best.scatter_(2, ranking.topk(_CELLS_PER_BOX, dim=2).indices, True)
    best &= allowed
    # A cell wanted by several boxes goes to the one it overlaps most.
    winner = torch.where(best, iou + 1e-6, torch.zeros_like(iou)).max(dim=1)
    owners = torch.where(winner.values > 0, winner.indices, torch.full_like(winner.indices, -1))

    owned = best & (owners[:, None] == torch.arange(boxes.shape[1], device=boxes.device)[None, :, None])
    alignment = alignment * owned
    strongest = alignment.amax(dim=2, keepdim=True)
    best_iou = (iou * owned).amax(dim=2, keepdim=True)
    strength = (alignment / (strongest + 1e-9) * best_iou).amax(dim=1)  # (B, A)
    goals = torch.zeros(batch, cells, CLASS_COUNT, device=scores.device)
    image, cell = torch.nonzero(owners >= 0, as_tuple=True)
    goals[image, cell, targets.class_ids[image, owners[image, cell]]] = strength[image, cell]
    return owners, goals


def intersection_over_union(a_cxcywh: Tensor, b_cxcywh: Tensor) -> Tensor:
    """IoU of boxes (..., 4), broadcast against each other; 0 for two empty boxes."""
    low = torch.maximum(a_cxcywh[..., :2] - a_cxcywh[..., 2:] / 2, b_cxcywh[..., :2] - b_cxcywh[..., 2:] / 2)
    high = torch.minimum(a_cxcywh[..., :2] + a_cxcywh[..., 2:] / 2, b_cxcywh[..., :2] + b_cxcywh[..., 2:] / 2)
    common = (high - low).clamp(min=0).prod(dim=-1)
    union = a_cxcywh[..., 2:].prod(dim=-1) + b_cxcywh[..., 2:].prod(dim=-1) - common
    return common / union.clamp(min=1e-9)


def complete_iou(found_cxcywh: Tensor, true_cxcywh: Tensor) -> Tensor:
    """IoU less penalties for distance of the centres and for difference in shape; boxes (N, 4) each, result (N,)."""
    iou = intersection_over_union(found_cxcywh, true_cxcywh)
    low = torch.minimum(found_cxcywh[:, :2] - found_cxcywh[:, 2:] / 2, true_cxcywh[:, :2] - true_cxcywh[:, 2:] / 2)
    high = torch.maximum(found_cxcywh[:, :2] + found_cxcywh[:, 2:] / 2, true_cxcywh[:, :2] + true_cxcywh[:, 2:] / 2)
    diagonal = (high - low).square().sum(dim=1).clamp(min=1e-9)
    distance = (found_cxcywh[:, :2] - true_cxcywh[:, :2]).square().sum(dim=1)
    angle = torch.atan2(true_cxcywh[:, 2], true_cxcywh[:, 3]) - torch.atan2(found_cxcywh[:, 2], found_cxcywh[:, 3])
    shape = (4 / math.pi**2) * angle.square()
    with torch.no_grad():
        tradeoff = shape / (1.0 - iou + shape).clamp(min=1e-9)
    return iou - distance / diagonal - tradeoff * shape
