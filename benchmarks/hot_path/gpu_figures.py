"""What the GPU part's samples say: medians, ratios of two ways, and how even the times are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.hot_path.blocks import Samples, median, ratio
from benchmarks.hot_path.gpu_setting import ONNXRUNTIME, TENSORRT, TORCHSCRIPT
from benchmarks.hot_path.gpu_ways import (
    BARE,
    BARE_AT_ONCE,
    BARE_ORDINARY,
    BATCHED,
    BATCHED_LOCKED,
    IN_TURN,
    IN_TURN_LOCKED,
    LOCKED,
    LOCKED_ON_ONE_CORE,
    ONNXRUNTIME_LOCKED,
    PLAIN,
    TORCHSCRIPT_LOCKED,
)
from trt_perception.statistics import summarize

# Figure → the way whose median total is divided by the other's.
RATIOS = {
    "gpu_tensorrt_vs_upload_and_engine": (LOCKED, BARE),
    "gpu_tensorrt_vs_upload_and_engine_at_once": (LOCKED, BARE_AT_ONCE),
    "gpu_tensorrt_vs_upload_and_engine_ordinary_memory": (TENSORRT, BARE_ORDINARY),
    "gpu_tensorrt_ordinary_vs_page_locked_upload_and_engine": (TENSORRT, BARE),
    "gpu_straightforward_vs_tensorrt": (PLAIN, TENSORRT),
    "gpu_torchscript_vs_tensorrt": (TORCHSCRIPT, TENSORRT),
    "gpu_torchscript_vs_tensorrt_page_locked": (TORCHSCRIPT_LOCKED, LOCKED),
    "gpu_onnxruntime_vs_tensorrt": (ONNXRUNTIME, TENSORRT),
    "gpu_onnxruntime_vs_tensorrt_page_locked": (ONNXRUNTIME_LOCKED, LOCKED),
    "gpu_four_batched_vs_in_turn": (BATCHED, IN_TURN),
    "gpu_four_batched_vs_in_turn_page_locked": (BATCHED_LOCKED, IN_TURN_LOCKED),
}
# The same of the network's own time on the device.
NETWORK_RATIOS = {
    "gpu_torchscript_vs_tensorrt_network_only": (TORCHSCRIPT, TENSORRT),
    "gpu_onnxruntime_vs_tensorrt_network_only": (ONNXRUNTIME, TENSORRT),
}
SPREAD_OF = (
    TENSORRT,
    LOCKED,
    LOCKED_ON_ONE_CORE,
    TORCHSCRIPT,
    TORCHSCRIPT_LOCKED,
    ONNXRUNTIME,
    ONNXRUNTIME_LOCKED,
    BARE,
    BARE_AT_ONCE,
    BARE_ORDINARY,
)
# A frame counts as settled when it takes at most this much more than those at the end of its block.
_SETTLED_SHARE = 1.05


def figures_of(
    samples: Samples, blocks: Mapping[str, Sequence[Sequence[float]]], in_a_row: Mapping[str, list[float]]
) -> dict[str, float]:
    """blocks: of each way the totals of all frames of every block, in milliseconds; in_a_row: of one long block."""
    figures = {f"gpu_total_ms {name}": median(rows["total"]) for name, rows in samples.items()}
    networks = {name: rows["network"] for name, rows in samples.items() if "network" in rows}
    figures.update({f"gpu_network_ms {name}": median(values) for name, values in networks.items()})
    for name, values in networks.items():
        figures[f"gpu_total_over_network {name}"] = median(samples[name]["total"]) / median(values)
    for name, (of, to) in RATIOS.items():
        if of in samples and to in samples:
            figures[name] = ratio(samples, (of, "total"), (to, "total"))
    for name, (of, to) in NETWORK_RATIOS.items():
        if of in networks and to in networks:
            figures[name] = ratio(samples, (of, "network"), (to, "network"))
    for name in SPREAD_OF:
        if name in samples:
            total = summarize(samples[name]["total"])
            figures[f"gpu_p99_over_p50 {name}"] = total.p99 / total.p50
        if name in in_a_row:
            total = summarize(in_a_row[name])
            figures[f"gpu_p99_over_p50_in_a_row {name}"] = total.p99 / total.p50
    figures.update({f"gpu_frames_until_settled {name}": settled_after(rows) for name, rows in blocks.items()})
    return figures


def settled_after(blocks: Sequence[Sequence[float]]) -> float:
    """How many frames a block begins with that take longer than those of its second half.

    Judged by the medians over all blocks, of three neighbouring places each, so that one slow frame is no beginning.
    """
    places = np.median(np.asarray(blocks), axis=0)
    usual = float(np.median(places[len(places) // 2 :]))
    smooth = np.array([np.median(places[i : i + 3]) for i in range(len(places) // 2)])
    settled = np.flatnonzero(smooth <= _SETTLED_SHARE * usual)
    return float(settled[0]) if settled.size else float(len(smooth))
