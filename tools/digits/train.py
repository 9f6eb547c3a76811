"""Trains the network for a given time, then scores it on held-out scenes.

The learning rate follows the clock, not a step count, so that the same command makes full use of any machine; for
that reason two runs do not give the same weights to the last bit, even with the same seed.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tools.digits.data import SIDE_PX, Batch, TrainingStream
from tools.digits.export import ExportedNet, load_network
from tools.digits.loss import Targets, detection_loss
from tools.digits.network import CLASS_COUNT, STRIDES_PX, DigitNet, cell_centers
from tools.digits.score import heldout_map, torch_infer
from trt_perception.model_file import InputSpec

_PEAK_RATE = 3e-3
_FINAL_RATE_SHARE = 0.01
_WARMUP_SHARE = 0.03
_WEIGHT_DECAY = 0.02
_AVERAGE_DECAY = 0.998
_LARGEST_GRADIENT = 10.0
_LARGEST_NOISE_SIGMA = 8.0 / 255.0
_REPORT_EVERY_S = 30.0


def learning_rate(progress: float) -> float:
    """Linear warm-up, then half a cosine; progress is the share of the time that has passed, 0 to 1."""
    if progress < _WARMUP_SHARE:
        return _PEAK_RATE * max(progress / _WARMUP_SHARE, 0.01)
    falling = 0.5 + 0.5 * math.cos(math.pi * (progress - _WARMUP_SHARE) / (1 - _WARMUP_SHARE))
    return _PEAK_RATE * (_FINAL_RATE_SHARE + (1 - _FINAL_RATE_SHARE) * falling)


def train(
    network: DigitNet, data: Path, *, limit_s: float, batch_size: int, workers: int, seed: int, device: torch.device
) -> DigitNet:
    """Trains for limit_s seconds and returns the running average of the weights, on the CPU."""
    torch.manual_seed(seed)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_WEIGHT_DECAY)
    loader = DataLoader(TrainingStream(data, batch_size, seed), batch_size=None, num_workers=workers)
    batches = iter(loader)
    start_s = report_s = time.monotonic()
    step = scenes = 0
    while (progress := (time.monotonic() - start_s) / limit_s) < 1.0:
        images, targets = _to_device(next(batches), device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            predictions = network(images)
        side_px = images.shape[-1]
        centers, _ = cell_centers([(side_px // stride, side_px // stride) for stride in STRIDES_PX], device)
        score_loss, box_loss = detection_loss(predictions, centers, targets)
        optimizer.zero_grad(set_to_none=True)
        (score_loss + box_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
        optimizer.step()
        step += 1
        scenes += len(images)
        _follow(average, network, min(_AVERAGE_DECAY, step / (step + 10)))
        if time.monotonic() - report_s > _REPORT_EVERY_S:
            report_s = time.monotonic()
            print(f"{progress:6.1%} step {step}: scores {score_loss:.3f} boxes {box_loss:.3f}", flush=True)
    print(f"{step} steps, {scenes} scenes, {time.monotonic() - start_s:.0f} s on {device}", flush=True)
    network.load_state_dict(average.state_dict())
    network.cpu()
    return network


def _to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Targets]:
    """Moves a batch, scales it to 0..1 and adds sensor noise, of another strength to each image."""
    images = batch.images_rgb.to(device).float() / 255.0
    sigma = torch.rand(len(images), 1, 1, 1, device=device) * _LARGEST_NOISE_SIGMA
    noisy = (images + torch.randn_like(images) * sigma).clamp(0.0, 1.0)
    targets = batch.targets
    moved = replace(
        targets,
        boxes_cxcywh=targets.boxes_cxcywh.to(device),
        class_ids=targets.class_ids.to(device),
        present=targets.present.to(device),
    )
    return noisy.contiguous(memory_format=torch.channels_last), moved


@torch.no_grad()
def _follow(average: DigitNet, network: DigitNet, decay: float) -> None:
    """Moves the averaged weights (and batch norm statistics) towards the current ones."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    slow, fast = zip(*((a, b) for a, b in pairs if a.dtype.is_floating_point), strict=True)
    torch._foreach_lerp_(slow, fast, 1.0 - decay)


def main() -> None:
    """Parses the command line, trains, writes the checkpoint and prints the held-out scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz that split.py wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="where the weights go (.pt)")
    parser.add_argument("--initial", type=Path, help="weights of an earlier run to go on from (.pt)")
    parser.add_argument("--limit-s", type=float, default=240.0, help="seconds to train")
    parser.add_argument("--batch-size", type=int, default=128, help="scenes per batch at 320x320")
    parser.add_argument("--workers", type=int, default=14, help="processes that compose scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scored-scenes", type=int, default=200)
    arguments = parser.parse_args()
    network = train(
        load_network(arguments.initial) if arguments.initial else DigitNet(),
        arguments.data,
        limit_s=arguments.limit_s,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        seed=arguments.seed,
        device=torch.device(arguments.device),
    )
    torch.save(network.state_dict(), arguments.checkpoint)
    infer = torch_infer(ExportedNet(network).eval())
    for width, height in ((SIDE_PX, SIDE_PX), (640, 480)):
        result = heldout_map(
            infer,
            InputSpec(width=SIDE_PX, height=SIDE_PX),
            CLASS_COUNT,
            count=arguments.scored_scenes,
            width=width,
            height=height,
        )
        print(f"held-out {width}x{height}: mAP50 {result.map50:.4f}, mAP50-95 {result.map50_95:.4f}", flush=True)


if __name__ == "__main__":
    main()
