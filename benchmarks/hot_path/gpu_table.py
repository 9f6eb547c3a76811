"""Prints the tables of docs/benchmarks/README.md from a document of the GPU part.

python -m benchmarks.hot_path.gpu_table docs/benchmarks/h200_hot_path.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.hot_path.gpu_setting import ONNXRUNTIME, TENSORRT, TORCHSCRIPT
from benchmarks.hot_path.gpu_ways import BARE, LOCKED, LOCKED_ON_ONE_CORE, TORCHSCRIPT_LOCKED, WAYS

# Figure, what it is, and its aim; a larger figure is the better one where the aim begins with >=.
_RATIOS = (
    (
        "gpu_tensorrt_vs_upload_and_engine",
        "frame → detections over upload and bare engine, both page-locked",
        "<= 1.15",
    ),
    ("gpu_tensorrt_vs_upload_and_engine_at_once", "the same over both in one CUDA graph", ""),
    ("gpu_tensorrt_vs_upload_and_engine_ordinary_memory", "the same, both from ordinary memory", ""),
    ("gpu_straightforward_vs_tensorrt", "straightforward way over this package", ">= 3"),
    ("gpu_torchscript_vs_tensorrt", "TorchScript over TensorRT, frames in ordinary memory", "<= 1.3"),
    ("gpu_torchscript_vs_tensorrt_page_locked", "the same, frames in page-locked memory", ""),
    ("gpu_torchscript_vs_tensorrt_network_only", "TorchScript's network over TensorRT's", ""),
    ("gpu_onnxruntime_vs_tensorrt", "ONNX Runtime over TensorRT, frames in ordinary memory", ""),
    (f"gpu_p99_over_p50_in_a_row {LOCKED}", "p99 over median of 3000 in a row, TensorRT, page-locked", "<= 1.2"),
    (f"gpu_p99_over_p50_in_a_row {LOCKED_ON_ONE_CORE}", "the same, kept on one core (`cpu_affinity`)", "<= 1.2"),
    (f"gpu_p99_over_p50_in_a_row {TENSORRT}", "the same, ordinary memory", "<= 1.2"),
    (f"gpu_p99_over_p50_in_a_row {BARE}", "the machine's own: upload and bare engine", ""),
    (f"gpu_p99_over_p50 {LOCKED}", "p99 over median of all turns, TensorRT, page-locked", "<= 1.2"),
    (f"gpu_p99_over_p50 {LOCKED_ON_ONE_CORE}", "the same, kept on one core (`cpu_affinity`)", "<= 1.2"),
    (f"gpu_p99_over_p50 {TENSORRT}", "the same, ordinary memory", "<= 1.2"),
    (f"gpu_p99_over_p50 {BARE}", "the machine's own: upload and bare engine", ""),
    (f"gpu_p99_over_p50 {TORCHSCRIPT_LOCKED}", "TorchScript, page-locked", ""),
    (f"gpu_p99_over_p50 {TORCHSCRIPT}", "TorchScript, ordinary memory", ""),
    (f"gpu_p99_over_p50 {ONNXRUNTIME}", "ONNX Runtime, ordinary memory", ""),
    ("gpu_four_batched_vs_in_turn", "four batched over four in turn, ordinary memory", "<= 0.6"),
    ("gpu_four_batched_vs_in_turn_page_locked", "the same, page-locked", "<= 0.6"),
)


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Markdown; what the document lacks is left out."""
    durations = {
        name.split(", ", 1)[1]: rows for name, rows in document["durations_ms"].items() if " on the GPU" in name
    }
    yield "| way | total ms, median (p99) | network |"
    yield "|---|---|---|"
    for way in WAYS:
        if way in durations:
            rows = durations[way]
            total = rows["total"]
            network = rows.get("network") or rows.get("engine")
            alone = f"{network['p50']:.3f}" if network else ""
            yield f"| {way} | {total['p50']:.3f} ({total['p99']:.3f}) | {alone} |"
    yield ""
    yield "| ratio | measured | aim | |"
    yield "|---|---|---|---|"
    for name, meaning, aim in _RATIOS:
        if name in document["figures"]:
            value = document["figures"][name]
            yield f"| {meaning} | {value:.2f} | {aim} | {_verdict(value, aim)} |"


def _verdict(value: float, aim: str) -> str:
    if not aim:
        return ""
    relation, bound = aim.split()
    reached = value >= float(bound) if relation == ">=" else value <= float(bound)
    return "reached" if reached else "not reached"


if __name__ == "__main__":
    print("\n".join(lines(json.loads(Path(sys.argv[1]).read_text()))))
