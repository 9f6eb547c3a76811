"""Someone else's figures beside ours: an earlier run, another machine, or another program's figures in our form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_perception.errors import PerceptionError
from trt_perception.statistics import summarize

Document = Mapping[str, Any]
_COMPARED = ("total", "inference")

# What has to be the same for a fair comparison: how to call it → where it stands.
_CONDITIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("CPU", ("environment", "cpu")),
    ("usable cores", ("environment", "usable_cores")),
    ("environment variables", ("environment", "variables")),
    ("OpenCV threads", ("environment", "opencv_threads")),
    ("pictures", ("pictures", "sha256")),
    ("warm-up frames", ("settings", "warm_up_frames")),
    ("measured frames", ("settings", "iterations")),
    ("frames in one turn", ("settings", "runs_per_block")),
    ("thresholds", ("model", "thresholds")),
)


@dataclass(frozen=True)
class Opponent:
    """Figures of another file. name: backend and file; median_ms: stage → p50."""

    name: str
    median_ms: Mapping[str, float]
    precision: str | None


def read_other(path: Path) -> Document:
    """The JSON document; raises PerceptionError for anything that has no rows with figures and no model.

    It needs `model` (`artifacts` with sha256, `input` with width and height) and `rows` (`backend`, and `stages_ms`
    or `samples_ms`); the rest may be missing, and is then named as unknown.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        _hashes(document)
        _size(document)
        if not opponents(document, path.name):
            raise ValueError("no row has figures")
    except OSError as error:
        raise PerceptionError(f"{path} cannot be read ({error.strerror}); give the JSON of a bench run") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PerceptionError(
            f"{path} is no bench document ({type(error).__name__}: {error}); see docs/benchmarking.md for the least "
            "that it has to hold"
        ) from error
    return dict(document)


def opponents(other: Document, file_name: str) -> list[Opponent]:
    """Every row with figures."""
    found = []
    for row in other["rows"]:
        medians = {stage: float(figures["p50"]) for stage, figures in row.get("stages_ms", {}).items()}
        medians |= {stage: summarize(values).p50 for stage, values in row.get("samples_ms", {}).items()}
        if any(stage in medians for stage in _COMPARED):
            found.append(Opponent(f"{row['backend']} ({file_name})", medians, row.get("info", {}).get("precision")))
    return found


def compare_with(ours: Document, other: Document, file_name: str) -> dict[str, Any]:
    """Speed-ups of our rows over theirs, and what makes them unfair; plain values for the document.

    Raises PerceptionError when the models' hashes or the input sizes differ: such figures say nothing together.
    """
    if not _hashes(ours) & _hashes(other):
        raise PerceptionError(f"{file_name} is about another model: no artifact has the same sha256; run both on one")
    if _size(ours) != _size(other):
        (w, h), (own_w, own_h) = _size(other), _size(ours)
        raise PerceptionError(
            f"{file_name} ran on an input of {w}x{h}, this on {own_w}x{own_h} pixels; "
            "export the model with one input size"
        )
    speed_ups = []
    for theirs in opponents(other, file_name):
        for row in ours["rows"]:
            if not row["ran"]:
                continue
            stage = next(s for s in _COMPARED if s in theirs.median_ms)
            mine = row["stages_ms"][stage]["p50"]
            precision = row["info"].get("precision")
            speed_ups.append(
                {
                    "backend": row["backend"],
                    "other": theirs.name,
                    "stage": stage,
                    "p50_ms": mine,
                    "other_p50_ms": theirs.median_ms[stage],
                    "speed_up": theirs.median_ms[stage] / mine,
                    "unfair": _precisions(precision, theirs.precision),
                }
            )
    return {"file": file_name, "unfair": unfair(ours, other), "speed_ups": speed_ups}


def unfair(ours: Document, other: Document) -> list[str]:
    """Each difference between the conditions, and each condition that the other does not tell."""
    words = []
    for name, place in _CONDITIONS:
        mine, theirs = _at(ours, place), _at(other, place)
        if theirs is None:
            words.append(f"{name}: it does not say")
        else:
            words += _differences(name, mine, theirs)
    mine, theirs = ([gpu.get("name") for gpu in d.get("environment", {}).get("gpus", [])] for d in (ours, other))
    if mine != theirs:
        words.append(f"GPUs: {mine or 'none'} here, {theirs or 'none'} there")
    return words


def _differences(name: str, mine: Any, theirs: Any) -> list[str]:
    """Of tables entry by entry, since their whole text shows nothing."""
    if mine == theirs:
        return []
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        keys = list(dict.fromkeys((*mine, *theirs)))
        return [words for key in keys for words in _differences(f"{name}, {key}", mine.get(key), theirs.get(key))]
    return [f"{name}: {_short(mine)} here, {_short(theirs)} there"]


def speed_up_lines(comparison: Document) -> list[str]:
    """For people."""
    lines = []
    for entry in comparison["speed_ups"]:
        ratio = entry["speed_up"]
        words = f"{ratio:.2f} times as fast as" if ratio >= 1 else f"{1 / ratio:.2f} times slower than"
        line = (
            f"{entry['backend']} is {words} {entry['other']} ({entry['stage']} p50 {entry['p50_ms']:.3f} and "
            f"{entry['other_p50_ms']:.3f} ms)"
        )
        lines.append(line + (f"; unfair: {entry['unfair']}" if entry["unfair"] else ""))
    reasons: Sequence[str] = comparison["unfair"]
    lines.append(f"unfair because of: {'; '.join(reasons)}" if reasons else "under the same conditions")
    return lines


def _precisions(mine: str | None, theirs: str | None) -> str | None:
    if theirs is None:
        return "its precision is not known"
    return None if mine == theirs else f"{mine} here, {theirs} there"


def _hashes(document: Document) -> set[str]:
    return {artifact["sha256"] for artifact in document["model"]["artifacts"].values() if artifact["sha256"]}


def _size(document: Document) -> tuple[int, int]:
    given = document["model"]["input"]
    return int(given["width"]), int(given["height"])


def _at(document: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}..."
