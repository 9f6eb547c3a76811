"""`trt-perception profile`: the time of every layer, slowest first."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trt_perception.benchmark.pictures import gather_pictures
from trt_perception.benchmark.profile_run import Profile, profile
from trt_perception.cli.options import MODEL_HELP, known_backend, positive_number, whole_number
from trt_perception.errors import PerceptionError
from trt_perception.models import DEMO_MODEL, load_model

_PLAIN_WIDTH = 200
_NAME_LENGTH = 60


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "profile",
        help="time of every layer, slowest first",
        description="Runs a backend under its library's own profiler. That costs time: take the shares from here and "
        "the latency from `bench`.",
    )
    add = parser.add_argument
    add("--model", default=DEMO_MODEL, help=MODEL_HELP)
    add("--backend", type=known_backend, default="onnxruntime", metavar="NAME[:DEVICE][:PRECISION]",
        help="default: %(default)s")  # fmt: skip
    add("--images", metavar="SOURCE", help="a picture, a folder or a video (default: shipped scenes)")
    add("--warmup", type=whole_number, default=5, metavar="N", help="frames before the first (default: %(default)s)")
    add("--iterations", type=positive_number, default=20, metavar="N", help="measured frames (default: %(default)s)")
    add("--top", type=whole_number, default=20, metavar="N", help="layers to show, 0: all (default: %(default)s)")
    add("--trace", type=Path, metavar="JSON", help="write the trace for chrome://tracing or Perfetto")
    add("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the table or the document; raises PerceptionError."""
    pictures = gather_pictures(args.images, args.iterations, load_model(args.model), None)
    found = profile(args.model, args.backend, pictures, warm_up=args.warmup, iterations=args.iterations)
    if args.trace is not None:
        try:
            args.trace.write_text(json.dumps(found.trace), encoding="utf-8")
        except OSError as error:
            raise PerceptionError(f"{args.trace} cannot be written ({error.strerror}); give another name") from error
    if args.json:
        json.dump(_document(found), sys.stdout, indent=1)
        print()
    else:
        _show(found, args.top or len(found.layers))
    return 0


def _document(found: Profile) -> dict[str, Any]:
    info = {k: v for k, v in asdict(found.info).items() if k not in ("inputs", "outputs", "metadata")}
    return {"backend": info, "layers": [asdict(layer) for layer in found.layers]}


def _show(found: Profile, count: int) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    info, layers = found.info, found.layers
    console.print(f"{info.library} on {info.device} ({info.device_name}), {info.provider}, {info.precision}")
    table = Table()
    for title in ("layer", "operator", "share", "mean ms", "p99 ms", "inputs"):
        table.add_column(title, justify="right" if title in ("share", "mean ms", "p99 ms") else "left", no_wrap=True)
    for layer in layers[:count]:
        times = layer.time_ms
        name = layer.name if len(layer.name) <= _NAME_LENGTH else f"...{layer.name[3 - _NAME_LENGTH :]}"
        table.add_row(
            name, layer.kind, f"{100 * layer.share:.1f} %", f"{times.mean:.3f}", f"{times.p99:.3f}", layer.shape
        )
    console.print(table)
    rest = layers[count:]
    if rest:
        console.print(f"and {len(rest)} more layers, {100 * sum(layer.share for layer in rest):.1f} % together")
    total_ms = sum(layer.time_ms.mean * layer.time_ms.count for layer in layers) / layers[0].time_ms.count
    console.print(f"all layers together: {total_ms:.2f} ms a run")
