"""Trains the network for a given time, then scores it on held-out scenes.

The learning rate follows the clock, not a step count, so that the same command makes full use of any machine; for
that reason two runs do not give the same weights to the last bit, even with the same seed.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from tools.digits.data import SIDE_PX
from tools.digits.export import ExportedNet, load_network
from tools.digits.loss import detection_loss
from tools.digits.network import CLASS_COUNT, STRIDE_PX, DigitNet, cell_centers
from tools.digits.scene_pool import as_seen, scene_pool
from tools.digits.score import heldout_map, torch_infer
from trt_perception.model_file import InputSpec

_FINAL_RATE_SHARE = 0.01
_WARMUP_SHARE = 0.03
_WEIGHT_DECAY = 0.02
_AVERAGE_DECAY = 0.998
_LARGEST_GRADIENT = 10.0
# Of scenes kept for showing them again: a large part of a data centre's GPU, a small one of a host that works besides.
_POOL_BYTES = {"cuda": 60 * 10**9, "cpu": 10**9}
_REPORT_EVERY_S = 30.0


def learning_rate(progress: float) -> float:
    """Linear warm-up to 1, then half a cosine; progress is the share of the time that has passed, 0 to 1."""
    if progress < _WARMUP_SHARE:
        return max(progress / _WARMUP_SHARE, 0.01)
    falling = 0.5 + 0.5 * math.cos(math.pi * (progress - _WARMUP_SHARE) / (1 - _WARMUP_SHARE))
    return _FINAL_RATE_SHARE + (1 - _FINAL_RATE_SHARE) * falling


def train(
    network: DigitNet,
    data: Path,
    checkpoint: Path,
    *,
    limit_s: float,
    batch_size: int,
    peak_rate: float,
    workers: int,
    seed: int,
    device: torch.device,
) -> DigitNet:
    """Trains for limit_s seconds and returns the running average of the weights, on the CPU; keeps it in checkpoint."""
    torch.manual_seed(seed)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval()
    followed = _pairs(average, network)
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak_rate, weight_decay=_WEIGHT_DECAY, fused=fused)
    torch.backends.cudnn.benchmark = True  # batches have three shapes
    start_s = report_s = time.monotonic()
    step = seen = 0
    with scene_pool(
        data, batch_size=batch_size, workers=workers, seed=seed, device=device, capacity_bytes=_POOL_BYTES[device.type]
    ) as pool:
        while (progress := (time.monotonic() - start_s) / limit_s) < 1.0:
            batch = pool.take()
            images = as_seen(batch.images_rgb)
            for group in optimizer.param_groups:
                group["lr"] = peak_rate * learning_rate(progress)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                predictions = network(images)
            cells = images.shape[-1] // STRIDE_PX
            centers = cell_centers(cells, cells, device)
            score_loss, box_loss = detection_loss(predictions, centers, batch.targets)
            optimizer.zero_grad(set_to_none=True)
            (score_loss + box_loss).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
            optimizer.step()
            step += 1
            seen += len(images)
            torch._foreach_lerp_(*followed, 1.0 - min(_AVERAGE_DECAY, step / (step + 10)))
            if time.monotonic() - report_s > _REPORT_EVERY_S:
                report_s = time.monotonic()
                torch.save(average.state_dict(), checkpoint)
                print(f"{progress:6.1%} step {step}: scores {score_loss:.3f} boxes {box_loss:.3f}", flush=True)
    print(
        f"{step} steps, {pool.composed} scenes, {seen} seen, {time.monotonic() - start_s:.0f} s on {device}", flush=True
    )
    network.load_state_dict(average.state_dict())
    network.cpu()
    torch.save(network.state_dict(), checkpoint)
    return network


def _pairs(average: DigitNet, network: DigitNet) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and batch norm statistics of both, sharing their memory: the averaged ones follow the others."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    kept = [(slow, fast) for slow, fast in pairs if slow.dtype.is_floating_point]
    return [slow for slow, _ in kept], [fast for _, fast in kept]


def main() -> None:
    """Parses the command line, trains, writes the checkpoint and prints the held-out scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz that split.py wrote")
    parser.add_argument("--checkpoint", type=Path, required=True, help="where the weights go (.pt)")
    parser.add_argument("--initial", type=Path, help="weights of an earlier run to go on from (.pt)")
    parser.add_argument("--limit-s", type=float, default=240.0, help="seconds to train")
    parser.add_argument("--batch-size", type=int, default=128, help="scenes per batch at 320x320")
    parser.add_argument("--peak-rate", type=float, default=3e-3, help="highest learning rate; lower after --initial")
    parser.add_argument("--workers", type=int, default=14, help="processes that compose scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--scored-scenes", type=int, default=200)
    arguments = parser.parse_args()
    network = train(
        load_network(arguments.initial) if arguments.initial else DigitNet(),
        arguments.data,
        arguments.checkpoint,
        limit_s=arguments.limit_s,
        batch_size=arguments.batch_size,
        peak_rate=arguments.peak_rate,
        workers=arguments.workers,
        seed=arguments.seed,
        device=torch.device(arguments.device),
    )
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
