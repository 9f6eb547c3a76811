"""`trt-perception bench`: backends side by side on the same pictures, and which one to take."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trt_perception.benchmark.against import compare_with, read_other, speed_up_lines
from trt_perception.benchmark.compare import compare
from trt_perception.benchmark.document import bench_document
from trt_perception.benchmark.environment import environment
from trt_perception.benchmark.page import html_page
from trt_perception.benchmark.pictures import gather_pictures
from trt_perception.benchmark.plan import BenchPlan, Candidate
from trt_perception.benchmark.text_report import (
    agreement_line,
    batch_table,
    environment_lines,
    facts,
    overview,
    reasons,
    stage_table,
    text_report,
)
from trt_perception.cli.options import (
    MODEL_HELP,
    backend_request,
    fraction,
    hertz,
    positive_number,
    seconds,
    whole_number,
)
from trt_perception.errors import PerceptionError
from trt_perception.models import DEMO_MODEL, load_model

# Where nobody watches, a table is as wide as it needs to be.
_PLAIN_WIDTH = 200


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="compare backends on the same pictures",
        description="Measures every --backend on the same pictures, each in a process of its own, in turns. Exit code "
        "0: one could run (with --strict: all) and none lost more than --max-map-drop.",
    )
    add = parser.add_argument
    add("--model", default=DEMO_MODEL, help=MODEL_HELP)
    add(
        "--backend",
        action="append",
        type=backend_request,
        metavar="NAME[:DEVICE][:PRECISION]",
        help="one to compare; stands once for each (default: onnxruntime:cpu and torchscript:cpu)",
    )
    add("--python", action="append", type=_interpreter, default=[], metavar="NAME=PATH",
        help="another interpreter for a backend, e.g. tensorrt=/opt/py310/bin/python")  # fmt: skip
    add("--images", metavar="SOURCE", help="a picture, a folder or a video (default: shipped scenes)")
    add("--labels", type=Path, metavar="PATH", help="COCO's JSON, or a folder of YOLO text files, for mAP")
    add("--limit", type=positive_number, default=32, metavar="N", help="pictures at most (default: %(default)s)")
    add("--control-rate", type=hertz, default=50.0, metavar="HZ", help="of the control loop (default: %(default)g)")
    add("--warmup", type=whole_number, default=20, metavar="N", help="frames before the first (default: %(default)s)")
    add("--iterations", type=positive_number, default=100, metavar="N", help="measured frames (default: %(default)s)")
    add("--avgRuns", "--avg-runs", type=positive_number, default=10, metavar="N", dest="avg_runs",
        help="measured frames in one turn (default: %(default)s)")  # fmt: skip
    add("--batch", type=_sizes, default=(), metavar="N,N", help="also inference of batches, e.g. 1,4,8,16")
    add("--reference", type=backend_request, help="what the others are compared with (default: the first)")
    add("--max-map-drop", type=fraction, metavar="X", help="exit 1 where one loses more mAP50-95 (needs labels)")
    add("--strict", action="store_true", help="exit 1 where one cannot run")
    add("--time-limit", type=seconds, default=300.0, metavar="S", help="for one answer (default: %(default)g)")
    add("--json", action="store_true", help="one JSON document (docs/bench.schema.json) on standard output")
    add("--against", type=Path, action="append", default=[], metavar="JSON", help="other figures to compare with")
    add("--html", type=Path, metavar="FILE", help="write the report as one page, as --save FILE.html does",
        action="append", default=[], dest="save")  # fmt: skip
    add("--save", type=Path, metavar="FILE", help="write the report: .json, .txt or .html; may stand several times",
        action="append", default=[])  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures and prints; raises PerceptionError for arguments that do not fit together."""
    for path in args.save:
        if path.suffix not in _WRITERS:
            raise PerceptionError(f"--save {path}: expected a name that ends in {' or '.join(_WRITERS)}")
    plan = _plan(args)
    model = load_model(plan.model)
    others = [(path, read_other(path)) for path in args.against]
    pictures = gather_pictures(args.images, args.limit, model, args.labels)
    if plan.max_map_drop is not None and pictures.truths is None:
        raise PerceptionError("--max-map-drop needs to know what is in the pictures; give --labels")
    status = Console(stderr=True)
    with status.status("starting") as spinner:
        machine = environment()
        rows = compare(plan, pictures, lambda what: spinner.update(what))
    document = bench_document(plan, model, pictures, rows, machine)
    document["against"] = [compare_with(document, other, path.name) for path, other in others]
    for path in args.save:
        _write(path, _WRITERS[path.suffix](document))
    if args.json:
        json.dump(document, sys.stdout, indent=1)
        print()
    else:
        _show(document)
    return _exit_code(document, args.strict, plan.max_map_drop)


def _exit_code(document: dict[str, Any], strict: bool, max_map_drop: float | None) -> int:
    ran = [row for row in document["rows"] if row["ran"]]
    complete = len(ran) == len(document["rows"])
    lost = max_map_drop is not None and any((row["map_drop"] or 0.0) > max_map_drop for row in ran)
    return 0 if ran and (complete or not strict) and not lost else 1


def _plan(args: argparse.Namespace) -> BenchPlan:
    requests = args.backend or ["onnxruntime:cpu", "torchscript:cpu"]
    repeated = {request for request in requests if requests.count(request) > 1}
    if repeated:
        raise PerceptionError(f"--backend {', '.join(sorted(repeated))} stands there twice; give each once")
    interpreters = dict(args.python)
    strangers = set(interpreters) - set(requests) - {request.split(":")[0] for request in requests}
    if strangers:
        raise PerceptionError(f"--python names {', '.join(sorted(strangers))}, which no --backend does")
    reference = args.reference or requests[0]
    if reference not in requests:
        raise PerceptionError(f"--reference {reference} is none of the backends: {', '.join(requests)}")
    candidates = tuple(
        Candidate(r, interpreters.get(r) or interpreters.get(r.split(":")[0]) or sys.executable) for r in requests
    )
    return BenchPlan(
        args.model,
        candidates,
        control_rate_hz=args.control_rate,
        warm_up_frames=args.warmup,
        iterations=args.iterations,
        runs_per_block=args.avg_runs,
        reference=requests.index(reference),
        batch_sizes=args.batch,
        time_limit_s=args.time_limit,
        max_map_drop=args.max_map_drop,
    )


def _show(document: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    for line in environment_lines(document):
        console.print(line)
    _print_table(console, overview(document), "p50, ms, where the column does not say otherwise")
    for line in reasons(document):
        console.print(line, markup=False)
    for row in document["rows"]:
        if row["ran"]:
            console.print(f"\n[bold]{row['backend']}[/bold]: {facts(row)}")
            console.print(agreement_line(row, document["settings"]["reference"]), markup=False)
            for table in (stage_table(row), batch_table(row)):
                if table:
                    _print_table(console, table, "")
    for comparison in document["against"]:
        console.print(f"\n[bold]against {comparison['file']}[/bold]")
        for line in speed_up_lines(comparison):
            console.print(line, markup=False)
    console.print(f"\n[bold]recommended[/bold]: {document['recommendation']['sentence']}")


def _print_table(console: Console, cells: list[list[str]], caption: str) -> None:
    table = Table(caption=caption or None, caption_justify="left")
    for place, title in enumerate(cells[0]):
        table.add_column(title, justify="right" if place else "left", no_wrap=True)
    for line in cells[1:]:
        table.add_row(*line)
    console.print(table)


_WRITERS = {
    ".json": lambda document: json.dumps(document, indent=1) + "\n",
    ".txt": text_report,
    ".html": html_page,
}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PerceptionError(f"{path} cannot be written ({error.strerror}); give --save another name") from error
    print(f"saved {path}", file=sys.stderr)


def _interpreter(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=PATH, e.g. tensorrt=/opt/py310/bin/python")
    return name, path


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(positive_number(part) for part in text.split(","))
