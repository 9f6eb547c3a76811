"""Runs every part on the machine at hand, prints the figures and writes benchmarks/latest.json."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.hot_path import cpu, gpu, memory, node_to_node, peer
from benchmarks.hot_path.blocks import Samples, summaries
from trt_perception.benchmark.environment import environment
from trt_perception.errors import PerceptionError
from trt_perception.statistics import Summary

LATEST = Path(__file__).resolve().parents[1] / "latest.json"
PARTS = ("cpu", "peer", "node", "memory", "gpu")


def run(parts: Sequence[str], folder: Path, pythons: Mapping[str, str]) -> dict[str, Any]:
    """Measures the parts and returns the document; what could not be measured stands in `not_measured`."""
    machine = environment()
    # Search paths of the machine at hand say nothing to anybody else.
    machine["variables"].pop("LD_LIBRARY_PATH", None)
    document: dict[str, Any] = {"environment": machine, "figures": {}, "not_measured": {}, "durations_ms": {}}
    for part in parts:
        start_s = time.monotonic()
        print(f"\n{part}", flush=True)
        try:
            figures, durations = _measure(part, folder, pythons, document["not_measured"])
        except PerceptionError as error:
            document["not_measured"][part] = str(error)
            print(f"  not measured: {error}")
            continue
        _print_durations(durations)
        for name, value in figures.items():
            print(f"  {name:<58} {value:9.3f}")
        document["figures"].update(figures)
        for name, rows in durations:
            if name in document["durations_ms"]:
                raise ValueError(f"two parts have durations named {name!r}; give one of them another name")
            document["durations_ms"][name] = {key: asdict(summary) for key, summary in rows.items()}
        print(f"  ({time.monotonic() - start_s:.0f} s)")
    return document


def _measure(
    part: str, folder: Path, pythons: Mapping[str, str], not_measured: dict[str, str]
) -> tuple[dict[str, float], list[tuple[str, dict[str, Summary]]]]:
    """The part's figures, and its durations by what was measured."""
    if part == "memory":
        return {"detector_peak_rss_mb": memory.detector_peak_rss_mb()}, []
    if part == "node":
        figures, nodes = node_to_node.measure(folder)
        not_measured.update({f"{n}: answers": f"{s.lost} images not answered" for n, s in nodes.items() if s.lost})
        return figures, [(name, samples.summaries()) for name, samples in nodes.items()]
    if part == "gpu":
        figures, samples, missing = gpu.measure(folder, pythons)
        not_measured.update(missing)
        for name, reason in missing.items():
            print(f"  {name} not measured: {reason}")
        return figures, _flat(samples)
    figures, samples = (cpu if part == "cpu" else peer).measure(folder)
    return figures, _flat(samples)


def _flat(samples: Mapping[str, Samples]) -> list[tuple[str, dict[str, Summary]]]:
    return [(f"{size}, {way}", rows) for size, ways in samples.items() for way, rows in summaries(ways).items()]


def _print_durations(durations: Sequence[tuple[str, dict[str, Summary]]]) -> None:
    if durations:
        print(f"  {'ms':<72} {'p50':>8} {'p95':>8} {'p99':>8} {'max':>8} {'n':>6}")
    for name, rows in durations:
        for key, s in rows.items():
            if key.endswith("_count"):
                continue
            line = f"{name}: {key.removesuffix('_ms')}"
            print(f"  {line:<72} {s.p50:8.3f} {s.p95:8.3f} {s.p99:8.3f} {s.max:8.3f} {s.count:6d}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 when every part ran or said why it cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one (may be repeated)")
    parser.add_argument("--output", type=Path, default=LATEST, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="keeps networks and engines there, for a further run")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="of the gpu part: whose interpreter has it",
    )
    args = parser.parse_args(arguments)
    pythons = dict(entry.split("=", 1) for entry in args.python)
    with tempfile.TemporaryDirectory() as folder:
        document = run(args.part or PARTS, args.folder or Path(folder), pythons)
    args.output.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nwritten to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
