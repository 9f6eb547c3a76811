"""A bench document as tables and lines of text: what the terminal, the text file and the page show alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trt_perception.benchmark.against import speed_up_lines

Document = Mapping[str, Any]

_STAGES = ("preprocess", "host_to_device", "inference", "device_to_host", "postprocess", "total")
_FIGURES = ("mean", "std", "min", "p50", "p95", "p99", "max")

Column = tuple[str, Callable[[Document], str]]


def _stage(name: str, figure: str) -> Callable[[Document], str]:
    return lambda row: f"{row['stages_ms'][name][figure]:.2f}" if name in row["stages_ms"] else "-"


def _optional(name: str, form: str) -> Callable[[Document], str]:
    return lambda row: form.format(row[name]) if row.get(name) is not None else "-"


def _agreement(row: Document) -> str:
    return f"{100 * row['agreement']['share']:.0f} %" if row["agreement"] is not None else "-"


# The table that compares: one line a backend.
OVERVIEW: tuple[Column, ...] = (
    ("pre", _stage("preprocess", "p50")),
    ("inference", _stage("inference", "p50")),
    ("post", _stage("postprocess", "p50")),
    ("total p50", _stage("total", "p50")),
    ("p99", _stage("total", "p99")),
    ("max", _stage("total", "max")),
    ("FPS", lambda row: f"{row['frames_per_second']:.0f}"),
    ("x fastest", lambda row: f"{row['ratio_to_fastest']:.2f}"),
    ("period", lambda row: f"{100 * row['control_period']['inference_p99_share']:.0f} %"),
    ("verdict", lambda row: str(row["control_period"]["verdict"])),
    ("agrees", _agreement),
    ("mAP50-95", _optional("map50_95", "{:.3f}")),
)


def overview(document: Document) -> list[list[str]]:
    """Header, then one line a backend; a backend that cannot run has dashes."""
    header = ["backend", *(title for title, _ in OVERVIEW)]
    return [header, *([row["backend"], *_cells(row)] for row in document["rows"])]


def _cells(row: Document) -> list[str]:
    return [cell(row) for _, cell in OVERVIEW] if row["ran"] else ["-"] * len(OVERVIEW)


def reasons(document: Document) -> list[str]:
    """Why each backend that cannot run cannot, and what to do."""
    lines = []
    for row in document["rows"]:
        problem = row["cannot_run"]
        if problem is not None:
            lines.append(f"{row['backend']} cannot run: {problem['reason']}")
            if problem["remedy"] is not None:
                lines.append(f"  this is: {problem['known_as']}; do: {problem['remedy']}")
    return lines


def stage_table(row: Document) -> list[list[str]]:
    """All figures of each stage of one backend, ms."""
    present = [stage for stage in _STAGES if stage in row["stages_ms"]]
    lines = [[stage, *(f"{row['stages_ms'][stage][f]:.3f}" for f in _FIGURES)] for stage in present]
    return [["stage, ms", *_FIGURES], *lines]


def batch_table(row: Document) -> list[list[str]]:
    """Inference of each batch size; empty where none was run."""
    if not row["batches"]:
        return []
    lines = []
    for batch in row["batches"]:
        figures = batch["inference_ms"]
        cells = (
            [f"{figures['p50']:.3f}", f"{figures['p99']:.3f}", f"{batch['pictures_per_second']:.0f}"]
            if figures
            else ["-"] * 3
        )
        lines.append([str(batch["size"]), *cells, batch["reason"] or ""])
    return [["batch", "inference p50 ms", "p99 ms", "pictures/s", ""], *lines]


def facts(row: Document) -> str:
    """One line about what ran: library, device, load time, first frame, memory."""
    info = row["info"]
    memory = _optional("peak_host_memory_mib", "{:.0f} MiB")(row)
    device_memory = _optional("peak_device_memory_mib", ", {:.0f} MiB on the GPU")(row).replace("-", "")
    interpreter = info.get("interpreter")
    library = f"{info['library']}, Python {interpreter['python']}," if interpreter else info["library"]
    return (
        f"{library} on {info['device']} ({info['device_name']}), {info['provider']}, {info['precision']}; "
        f"loaded in {row['load_ms']:.0f} ms, first frame {row['first_frame_ms']:.1f} ms, peak memory {memory}"
        f"{device_memory}"
    )


def agreement_line(row: Document, reference: str) -> str:
    """How the results compare with the reference's."""
    found = row["agreement"]
    if found is None:
        return "no reference ran, so its results were not compared"
    difference = (
        f"outputs differ by at most {found['max_abs_difference']:.3g}, {found['mean_abs_difference']:.3g} on average"
        if found["incomparable"] is None
        else f"outputs not comparable: {found['incomparable']}"
    )
    line = (
        f"beside {reference}: {found['matched_count']} detections match of {found['detection_count']} here and "
        f"{found['reference_count']} there; {difference}"
    )
    if row["map50"] is not None:
        line += f"; mAP50 {row['map50']:.4f}, mAP50-95 {row['map50_95']:.4f}"
        line += f" ({0.0 - row['map_drop']:+.4f})" if row["map_drop"] is not None else ""
    return line


def environment_lines(document: Document) -> list[str]:
    """Model, pictures, machine and settings."""
    machine, settings, pictures = document["environment"], document["settings"], document["pictures"]
    hashes = ", ".join(f"{k} {a['sha256'][:12]}" for k, a in document["model"]["artifacts"].items() if a["sha256"])
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no NVIDIA GPU"
    sizes = ", ".join(f"{width}x{height}" for width, height in pictures["sizes_px"])
    return [
        f"model {document['model']['name']} (sha256: {hashes})",
        f"pictures: {pictures['count']} of {pictures['source']}, {sizes} px",
        f"machine: {machine['cpu']}, {machine['usable_cores']} cores, {gpus}; {machine['system']}, "
        f"Python {machine['python']}",
        f"{settings['warm_up_frames']} warm-up and {settings['iterations']} measured frames each, in turns of "
        f"{settings['runs_per_block']} after {settings['settle_frames']} that do not count; nothing is trimmed; "
        f"{document['date_utc']}",
    ]


def text_report(document: Document) -> str:
    """The whole comparison as plain text."""
    parts = ["\n".join(environment_lines(document)), _aligned(overview(document))]
    parts += ["\n".join(lines)] if (lines := reasons(document)) else []
    for row in document["rows"]:
        if row["ran"]:
            tables = [_aligned(table) for table in (stage_table(row), batch_table(row)) if table]
            head = [row["backend"], facts(row), agreement_line(row, document["settings"]["reference"])]
            parts.append("\n".join([*head, *tables]))
    for comparison in document.get("against", []):
        parts.append("\n".join([f"against {comparison['file']}", *speed_up_lines(comparison)]))
    parts.append(f"recommended: {document['recommendation']['sentence']}")
    return "\n\n".join(parts) + "\n"


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
