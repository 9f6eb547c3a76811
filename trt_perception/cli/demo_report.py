"""What the demo shows while it runs, and the files that it leaves."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trt_perception.control_budget.picture import delay_note, write_budget_picture
from trt_perception.errors import PerceptionError
from trt_perception.statistics import Summary, summarize

if TYPE_CHECKING:
    from trt_perception.ros.demo_observer import Seen

# Where nobody sees a live table, it is printed so often instead.
_PLAIN_PERIOD_S = 5.0


@contextmanager
def live_view() -> Iterator[Callable[[Seen], None]]:
    """Gives a function that shows the state: in place on a terminal, as a table now and then elsewhere."""
    console = Console()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda seen: live.update(render(seen))
        return
    console = Console(width=100)
    last_s = time.monotonic()

    def show(seen: Seen) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= _PLAIN_PERIOD_S:
            last_s = time.monotonic()
            console.print(render(seen))
            sys.stdout.flush()

    yield show


def render(seen: Seen) -> Group:
    """The table of stages and the lines around it."""
    table = Table(title=_status(seen, ": inference")[0], title_justify="left")
    for column in ("stage", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, summary in stage_summaries(seen).items():
        if name.endswith("_ms"):
            table.add_row(name.removesuffix("_ms"), *(f"{v:.2f}" for v in (summary.p50, summary.p99, summary.max)))
    values = _status(seen, ": input image")[1]
    frames = ", ".join(f"{values.get(f'{n}_count', 0)} {n}" for n in ("received", "processed", "dropped", "lost"))
    lines = [
        f"frames so far: {frames}",
        f"detections: {', '.join(seen.found) or 'none'}",
        f"control budget: {seen.budget.sentence if seen.budget else 'not known yet'}",
    ]
    return Group(table, Text("\n".join(lines)))


def stage_summaries(seen: Seen) -> dict[str, Summary]:
    """The figures of every name in inference_latency, over the whole run."""
    return {name: summarize(samples) for name, samples in seen.samples.items() if samples}


def frame_counts(seen: Seen) -> dict[str, int]:
    """What the camera sent and what became of it, as the nodes report it once a second.

    Right only when all_accounted(): until then the newest pictures may be in one node's count and not in the other's.
    """
    sent = int(_status(seen, ": camera")[1].get("sent_count", 0))
    values = _status(seen, ": input image")[1]
    received, processed, dropped = (int(values.get(f"{n}_count", 0)) for n in ("received", "processed", "dropped"))
    return {"sent": sent, "processed": processed, "dropped": dropped, "lost": max(sent - received, 0)}


def account(seen: Seen) -> str:
    """One line: what became of every picture that the camera sent."""
    return "frames: " + ", ".join(f"{count} {name}" for name, count in frame_counts(seen).items())


def all_accounted(seen: Seen) -> bool:
    """True when the camera has finished and the detector, which spoke after that, is idle."""
    message, camera = _status(seen, ": camera")
    _, values = _status(seen, ": input image")
    return message == "finished" and camera != {} and float(values.get("arriving_hz", 1)) == 0.0


def make_folder(folder: Path) -> None:
    """Makes the folder now, rather than fail after the run; raises PerceptionError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PerceptionError(f"{folder} cannot be made ({error.strerror}); give --output another one") from error


def write_outputs(folder: Path, seen: Seen, first_detection_s: float) -> list[Path]:
    """Writes annotated.png, latency.json and budget.png and returns their paths.

    Raises PerceptionError when something is missing or cannot be written.
    """
    if seen.picture is None:
        raise PerceptionError("no annotated image came; see the detector's status in /diagnostics")
    if seen.budget is None or seen.budget_thresholds is None:
        raise PerceptionError("no control_budget came; see the monitor's status in /diagnostics")
    document: dict[str, Any] = {
        "date_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"system": platform.platform(), "processor": _status(seen, ": inference")[1].get("device_name")},
        "inference": dict(_status(seen, ": inference")[1]),
        "first_detection_s": round(first_detection_s, 3),
        "frames": frame_counts(seen),
        "stages": {name: asdict(summary) for name, summary in stage_summaries(seen).items()},
        "control_budget": {"sentence": seen.budget.sentence, **seen.budget.named},
    }
    good, png = cv2.imencode(".png", seen.picture)
    if not good:
        raise PerceptionError("the annotated image could not be encoded as PNG")
    contents = {"annotated.png": png.tobytes(), "latency.json": (json.dumps(document, indent=1) + "\n").encode()}
    try:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise PerceptionError(f"{folder} cannot be written ({error.strerror}); give --output another one") from error
    picture = folder / "budget.png"
    if (note := delay_note()) is not None:
        print(note, flush=True)
    write_budget_picture(picture, seen.budget_shares, seen.budget_thresholds, seen.budget.sentence)
    return [*(folder / name for name in contents), picture]


def _status(seen: Seen, ending: str) -> tuple[str, dict[str, str]]:
    for name, (_, message, values) in seen.diagnostics.items():
        if name.endswith(ending):
            return message, dict(values)
    return "", {}
