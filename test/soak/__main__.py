"""The whole of the fault injection: `make soak FRAMES=50000`, or `python -m test.soak --only NAME` for one row.

Writes summary.json, prints a line a fault, and returns 1 when a process crashed, a fault was not survived or a limit of
docs/reliability.md was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from test.soak import respawn, scenarios
from test.soak.bench import Row
from test.soak.resources import Growth
from test.soak.signals import signals

MOST_GROWTH_PERCENT = 2.0


def table(frames: int, rng: random.Random) -> dict[str, tuple[Callable[[], Row], float | None]]:
    """By name: the scenario, and the longest recovery (s) that is good enough."""
    faults: dict[str, tuple[Callable[[], Row], float | None]] = {
        "camera": (lambda: scenarios.camera_restarts(50, rng), 1.0),
        "warm-fallback": (lambda: scenarios.backend_failures(20, rng, warm=True), 2.0),
        "cold-fallback": (lambda: scenarios.backend_failures(20, rng, warm=False), None),
        "changes": (lambda: scenarios.changes(300, rng), None),
        "deaf": (lambda: scenarios.deaf_subscribers(10.0), None),
        "stops": (lambda: scenarios.stops(20, rng), None),
        "bad-raw": (lambda: scenarios.bad_input(max(frames // 10, 300), rng, "raw"), None),
        "bad-compressed": (lambda: scenarios.bad_input(max(frames // 10, 300), rng, "compressed"), None),
        "signals": (lambda: signals(60, rng), None),
    }
    if respawn.available():
        faults |= {
            "killed": (lambda: respawn.killed(5), 5.0),
            "hung": (lambda: respawn.hung(3, locked=False), None),
            "hung-locked": (lambda: respawn.hung(3, locked=True), None),
        }
    return faults


def run(frames: int, only: list[str], seed: int, backend: str) -> dict[str, Any]:
    """Runs them one after another; what fails is noted, and the others go on."""
    rng = random.Random(seed)
    rows: dict[str, Any] = {}
    failed: dict[str, str] = {}
    grown: Growth | None = None
    if not only or "steady" in only:
        try:
            row, grown = scenarios.steady(frames, backend)
            rows["steady"] = row.document() | asdict(grown)
            if abs(grown.rss_percent) >= MOST_GROWTH_PERCENT or grown.descriptors > 0:
                failed["steady"] = f"grew: {grown}"
        except Exception as error:
            failed["steady"] = _told(error)
        _show("steady", rows.get("steady"), failed.get("steady"))
    for name, (scenario, limit_s) in table(frames, rng).items():
        if only and name not in only:
            continue
        try:
            row = scenario()
            rows[name] = row.document()
            if row.crashes or (limit_s is not None and (row.recovery_s or 0) > limit_s):
                failed[name] = f"crashes {row.crashes}, recovery {row.recovery_s} s, limit {limit_s} s"
        except Exception as error:
            failed[name] = _told(error)
        _show(name, rows.get(name), failed.get(name))
    return {
        "frames": sum(row["frames"] for row in rows.values()),
        "steady_frames": frames if grown else 0,
        "crashes": sum(row["crashes"] for row in rows.values()),
        "rss_growth_percent": grown.rss_percent if grown else None,
        "fd_growth": grown.descriptors if grown else None,
        "gpu_memory_growth_percent": grown.gpu_percent if grown else None,
        "worst_recovery_s": {name: row["recovery_s"] for name, row in rows.items() if row["recovery_s"] is not None},
        "not_run": [] if respawn.available() else ["killed, hung, hung-locked: no ros2 command here"],
        "failed": failed,
        "seed": seed,
        "cpu_count": os.cpu_count(),
        "rows": rows,
    }


def _told(error: Exception) -> str:
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"[:2000]


def _show(name: str, row: dict[str, Any] | None, failure: str | None) -> None:
    print(f"{name:<15} {'FAILED ' + failure if failure else 'ok'} {json.dumps(row) if row else ''}", flush=True)


def main() -> int:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(prog="python -m test.soak", description=__doc__)
    parser.add_argument("--frames", type=int, default=50_000, help="of the steady run (default: %(default)s)")
    parser.add_argument("--backend", default="fake", help="of the steady run (default: %(default)s)")
    parser.add_argument("--only", action="append", default=[], help="one scenario; may be given several times")
    parser.add_argument("--seed", type=int, default=8, help="of every random choice (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("soak_output"), help="folder (default: %(default)s)")
    args = parser.parse_args()
    known = {"steady", *table(0, random.Random())}
    if unknown := set(args.only) - known:
        parser.error(f"there is no scenario {', '.join(unknown)} here; there are {', '.join(sorted(known))}")
    # A shell's background job ignores SIGINT, and what it starts inherits that; `ros2 launch` is ended by SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    summary = run(args.frames, args.only, args.seed, args.backend)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(
        f"{args.output / 'summary.json'}: {summary['frames']} frames, {summary['crashes']} crashes, "
        f"{len(summary['failed'])} failed"
    )
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
