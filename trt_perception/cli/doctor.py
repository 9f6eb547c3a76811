"""`trt-perception doctor`: will each backend run here, and if not, what exactly to do."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trt_perception.cli.options import MODEL_HELP, backend_request, seconds
from trt_perception.doctor.examine import BackendVerdict, Diagnosis, every_backend, examine
from trt_perception.doctor.findings import Finding, Level
from trt_perception.doctor.known_failures import recognise
from trt_perception.errors import PerceptionError
from trt_perception.models import DEMO_MODEL

# ANSI colours, by hand: a doctor should need as few libraries as can be.
_COLORS = {Level.OK: "32", Level.ABSENT: "2", Level.WARNING: "33", Level.FAILED: "31"}


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="will each backend run here, and if not, what to do",
        description="Looks at every library in a process of its own, opens each backend on one picture, and says "
        "what to do. Exit code 0: every --backend can run; without --backend: at least one can.",
    )
    parser.add_argument("--model", default=DEMO_MODEL, help=MODEL_HELP)
    parser.add_argument(
        "--backend",
        action="append",
        type=backend_request,
        metavar="NAME[:DEVICE][:PRECISION]",
        help="the one that is wanted; may stand several times (default: look at all)",
    )
    parser.add_argument(
        "--time-limit", type=seconds, default=60.0, metavar="S", help="for each look (default: %(default)g)"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="only look for known failures in this output")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the findings; 1 where a backend that is wanted cannot run."""
    if args.log is not None:
        return _explain(args.log)
    wanted = args.backend or every_backend()
    diagnosis = examine(wanted, args.model, time_limit_s=args.time_limit, progress=_progress)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    can_run = [verdict.can_run for verdict in diagnosis.backends]
    healthy = all(can_run) if args.backend else any(can_run)
    if args.json:
        json.dump(_document(diagnosis, healthy), sys.stdout, indent=1)
        print()
    else:
        _show(diagnosis)
    return 0 if healthy else 1


def _explain(path: Path) -> int:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PerceptionError(
            f"{path} cannot be read ({error.strerror}); give a file with a command's output"
        ) from error
    known = recognise(text)
    if known is None:
        print("no known failure in it")
        return 1
    print(f"{known.name}\n  do: {known.advice({})}")
    return 0


def _document(diagnosis: Diagnosis, healthy: bool) -> dict[str, Any]:
    return {
        "can_run": healthy,
        "backends": [_verdict(verdict) for verdict in diagnosis.backends],
        "findings": [_finding(finding) for finding in diagnosis.findings],
    }


def _verdict(verdict: BackendVerdict) -> dict[str, Any]:
    entry = _finding(verdict.finding)
    del entry["probe"], entry["level"]
    return {"backend": verdict.backend, "can_run": verdict.can_run, **entry}


def _finding(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "level": finding.level.value}


def _progress(name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[Klooked at {name}", end="", file=sys.stderr, flush=True)


def _show(diagnosis: Diagnosis) -> None:
    names = [*(f.probe for f in diagnosis.findings), *(v.backend for v in diagnosis.backends)]
    width = max(map(len, names))
    for finding in diagnosis.findings:
        _line(finding.probe.ljust(width), finding.level.value, finding)
    print()
    for verdict in diagnosis.backends:
        _line(verdict.backend.ljust(width), "can run" if verdict.can_run else "cannot run", verdict.finding)


def _line(name: str, word: str, finding: Finding) -> None:
    """Never wrapped, so that a command can be copied."""
    word = f"{word:<10}"
    if sys.stdout.isatty():
        word = f"\x1b[{_COLORS[finding.level]}m{word}\x1b[0m"
    print(f"{name}  {word}  {finding.summary}")
    indent = " " * (len(name) + 2)
    if finding.known_as is not None:
        print(f"{indent}this is: {finding.known_as}")
    if finding.remedy is not None:
        print(f"{indent}do: {finding.remedy}")
