"""Accounts for every frame between a camera and the detector, and says whether frames pile up on the way.

`python -m benchmarks.frame_accounting --seconds 60` in the activated environment runs both nodes as processes, lets
the camera send a known number of pictures, waits until both nodes have told what became of them, and prints a table
and a line of JSON. It exits with 1 when the books do not balance.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from trt_perception.dds_environment import with_dds_variables
from trt_perception.errors import PerceptionError
from trt_perception.models import DEMO_MODEL
from trt_perception.resources import share_directory
from trt_perception.ros.demo_observer import Seen, observing
from trt_perception.ros.node_processes import NodeCommand, node_processes
from trt_perception.ros.wait_for_nodes import START_TIMEOUT_S, wait_until
from trt_perception.statistics import Summary, summarize

_SETTLE_TIMEOUT_S = 20.0
# /diagnostics comes once a second: what a node said before the last picture is replaced after this.
_TWO_REPORTS_S = 2.5
_STAGES = ("queue_wait_ms", "decode_ms", "preprocess_ms", "inference_ms", "postprocess_ms", "publish_ms", "total_ms")
MOST_LOST_SHARE = 0.01


@dataclass(frozen=True)
class Run:
    """What to measure: seconds at rate_hz pictures a second of width x height pixels."""

    seconds: float = 60.0
    rate_hz: float = 30.0
    width: int = 640
    height: int = 480
    model: str = DEMO_MODEL
    backend: str = "onnxruntime:cpu"

    @property
    def frames(self) -> int:
        """How many pictures the camera sends."""
        return max(1, round(self.seconds * self.rate_hz))


@dataclass(frozen=True)
class Books:
    """Counts of frames. sent, late (of those, after the next one was due): by the camera; the rest: by the detector.

    dropped = superseded + stale + skipped. lost: gaps in the publisher's numbers, so it is not derived from sent.
    """

    sent: int
    late: int
    received: int
    processed: int
    superseded: int
    stale: int
    skipped: int
    paused: int
    malformed: int
    failed: int
    lost: int

    @property
    def dropped(self) -> int:
        """Received, and not looked at because a newer one came, it was too old, or inference had had its share."""
        return self.superseded + self.stale + self.skipped

    @property
    def unexplained(self) -> int:
        """Frames that no count accounts for; 0 when the books balance."""
        return self.sent - (self.processed + self.dropped + self.paused + self.malformed + self.failed + self.lost)


def measure(run: Run, environment: Mapping[str, str]) -> tuple[Books, dict[str, Summary]]:
    """Runs the nodes; returns the books and the figures (ms) of each stage over all its frames.

    environment: of the nodes' processes; the observer in this process reads os.environ. Raises PerceptionError when
    a node ends or takes too long.
    """
    with node_processes([_detector(run)], environment) as detector, observing() as observer:
        wait_until(observer, detector, _is_active, "the detector is not active")
        with node_processes([_camera(run)], environment) as camera:
            processes = [*detector, *camera]
            limit_s = START_TIMEOUT_S + run.seconds * 1.5
            wait_until(observer, processes, _is_finished, "the camera has not finished", limit_s)
            time.sleep(_TWO_REPORTS_S)
            wait_until(observer, processes, _is_idle, "arrivals have not ended", _SETTLE_TIMEOUT_S)
            with observer.looking() as seen:
                stages = {name: summarize(seen.samples[name]) for name in _STAGES if seen.samples.get(name)}
                return _books(seen), stages


def _detector(run: Run) -> NodeCommand:
    arguments = ("-r", "image:=image_raw", "-p", f"model:={run.model}", "-p", f"backends:=['{run.backend}']")
    return NodeCommand("detector_node", arguments)


def _camera(run: Run) -> NodeCommand:
    values = {
        "rate_hz": float(run.rate_hz),
        "width": run.width,
        "height": run.height,
        "frame_count": run.frames,
        "wait_for_subscriber": "true",
    }
    arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    return NodeCommand("camera_node", arguments)


def _is_active(seen: Seen) -> bool:
    return _status(seen, ": inference")[1].get("lifecycle_state") == "active"


def _is_finished(seen: Seen) -> bool:
    return _status(seen, ": camera")[0] == "finished"


def _is_idle(seen: Seen) -> bool:
    return float(_status(seen, ": input image")[1].get("arriving_hz", "1")) == 0.0


def _status(seen: Seen, ending: str) -> tuple[str, Mapping[str, str]]:
    """Message and values of the status whose name ends so; both empty while there is none."""
    found = (entry for name, entry in seen.diagnostics.items() if name.endswith(ending))
    _, message, values = next(found, (0, "", {}))
    return message, values


def _books(seen: Seen) -> Books:
    camera, detector = _status(seen, ": camera")[1], _status(seen, ": input image")[1]
    names = ("received", "processed", "superseded", "stale", "skipped", "paused", "malformed", "failed", "lost")
    return Books(
        sent=int(camera["sent_count"]),
        late=int(camera["late_count"]),
        **{name: int(detector[f"{name}_count"]) for name in names},
    )


def report(run: Run, books: Books, stages: Mapping[str, Summary]) -> str:
    """The table, as text."""
    lines = [f"{run.frames} frames of {run.width}x{run.height} at {run.rate_hz:g} Hz, {run.model} on {run.backend}"]
    for name, count in _counts(books).items():
        lines.append(f"  {name:<12} {count:>7}  {count / max(books.sent, 1):>8.2%}")
    lines.append(f"  {'':<18} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for name, figures in stages.items():
        lines.append(f"  {name:<18} {figures.p50:>8.2f} {figures.p99:>8.2f} {figures.max:>8.2f}")
    lines += [f"{'yes' if holds else 'NO ':<4} {claim}" for claim, holds in verdicts(run, books, stages).items()]
    return "\n".join(lines)


def verdicts(run: Run, books: Books, stages: Mapping[str, Summary]) -> dict[str, bool]:
    """What is to hold, and whether it does."""
    period_ms = 1e3 / run.rate_hz
    queue = stages.get("queue_wait_ms")
    return {
        f"the books balance: {books.unexplained} frames unexplained": books.unexplained == 0,
        f"less than {MOST_LOST_SHARE:.0%} are lost": books.lost < MOST_LOST_SHARE * books.sent,
        f"p99 of queue_wait_ms is below one frame period, {period_ms:.1f} ms": queue is not None
        and queue.p99 < period_ms,
    }


def _counts(books: Books) -> dict[str, int]:
    return {**asdict(books), "dropped": books.dropped, "unexplained": books.unexplained}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 when the books balance, 1 when not or when a node failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frame_accounting", description=__doc__)
    defaults = Run()
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=defaults.rate_hz, metavar="HZ", help="default: %(default)s")
    parser.add_argument("--width", type=int, default=defaults.width, help="pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=defaults.height, help="pixels (default: %(default)s)")
    parser.add_argument("--model", default=defaults.model, help="default: %(default)s")
    parser.add_argument("--backend", default=defaults.backend, help="default: %(default)s")
    args = parser.parse_args(arguments)
    run = Run(args.seconds, args.rate, args.width, args.height, args.model, args.backend)
    # The observer's participant reads the profile too, and nothing beyond this machine shall hear the nodes.
    os.environ.update(with_dds_variables(os.environ, share_directory() / "config"))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    load_before = os.getloadavg()[0]
    try:
        books, stages = measure(run, os.environ)
    except PerceptionError as error:
        print(f"frame_accounting: {error}", file=sys.stderr)
        return 1
    print(report(run, books, stages))
    document = {
        "run": asdict(run),
        "frames": _counts(books),
        "stages": {name: asdict(figures) for name, figures in stages.items()},
        "cpu_count": os.cpu_count(),
        "load_average_before": load_before,
    }
    print(json.dumps(document))
    return 0 if books.unexplained == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
