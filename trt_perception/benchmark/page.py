"""A comparison as one HTML page that needs nothing else: no script, no network; charts are boxes and SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from trt_perception.benchmark.against import speed_up_lines
from trt_perception.benchmark.page_style import STAGE_COLORS, STYLE, VERDICT_COLORS
from trt_perception.benchmark.text_report import (
    agreement_line,
    batch_table,
    environment_lines,
    facts,
    overview,
    stage_table,
)

Document = Mapping[str, Any]
_BINS = 60
# Periods; a backend that needs dozens of them shall not press the others flat.
_LONGEST_BAR = 2.0
_CHART_HEIGHT = 100.0
# The empty icon keeps a browser from asking for one.
_FRAME = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def html_page(document: Document) -> str:
    """The page, for a browser or a printer."""
    title = f"{document['model']['name']}: {len(document['rows'])} backends"
    ran = [row for row in document["rows"] if row["ran"]]
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="dim">{escape(line)}</p>' for line in environment_lines(document)),
        f'<p class="recommended"><b>Recommended:</b> {escape(document["recommendation"]["sentence"])}</p>',
        "<h2>Side by side</h2>",
        _table(overview(document)),
        '<p class="dim">p50, ms, where the column does not say otherwise. period: p99 of inference as a share of the '
        "control period. agrees: detections that match the reference's.</p>",
        *map(_problem, document["rows"]),
    ]
    if ran:
        parts += ["<h2>Stages</h2>", _legend(ran), *(_stages(row, ran) for row in ran)]
        parts += ["<h2>Share of the control period</h2>", *_budget(document, ran)]
        parts += ["<h2>Latency distributions</h2>", *_distributions(ran)]
    for comparison in document.get("against", []):
        lines = "".join(f"<li>{escape(line)}</li>" for line in speed_up_lines(comparison))
        parts += [f"<h2>Against {escape(comparison['file'])}</h2>", f"<ul>{lines}</ul>"]
    parts += ["<h2>Each backend</h2>", *(_details(row, document["settings"]["reference"]) for row in ran)]
    parts += ["<h2>Environment</h2>", _environment(document)]
    return _FRAME.format(title=escape(title), style=STYLE, body="\n".join(parts))


def _table(cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in cells[0])
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in cells[1:])
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _problem(row: Document) -> str:
    problem = row["cannot_run"]
    if problem is None:
        return ""
    remedy = f"<br>{escape(problem['known_as'])}: {escape(problem['remedy'])}" if problem["remedy"] else ""
    return f'<p class="problem"><b>{escape(row["backend"])}</b> cannot run: {escape(problem["reason"])}{remedy}</p>'


def _legend(ran: Sequence[Document]) -> str:
    present = [stage for stage in STAGE_COLORS if any(stage in row["stages_ms"] for row in ran)]
    entries = (f'<span><i style="background:{STAGE_COLORS[s]}"></i>{s.replace("_", " ")}</span>' for s in present)
    return f'<p class="legend">{"".join(entries)}</p>'


def _stages(row: Document, ran: Sequence[Document]) -> str:
    """Means, because those of the stages add up to the whole."""
    longest = max(sum(_means(other).values()) for other in ran)
    means = _means(row)
    bars = "".join(
        f'<div class="bar" style="width:{100 * ms / longest:.3f}%;background:{STAGE_COLORS[stage]}" '
        f'title="{stage} {ms:.3f} ms"></div>'
        for stage, ms in means.items()
    )
    told = " + ".join(f"{ms:.2f}" for ms in means.values())
    return _chart(row["backend"], f"{told} = {sum(means.values()):.2f} ms (means)", bars)


def _means(row: Document) -> dict[str, float]:
    return {stage: row["stages_ms"][stage]["mean"] for stage in STAGE_COLORS if stage in row["stages_ms"]}


def _budget(document: Document, ran: Sequence[Document]) -> list[str]:
    settings = document["settings"]
    period_ms = 1000.0 / settings["control_rate_hz"]
    scale = min(max(1.0, *(row["control_period"]["inference_p99_share"] for row in ran)), _LONGEST_BAR)
    marks = f'<div class="mark" style="left:{100 / scale:.3f}%"></div>' + "".join(
        f'<div class="mark faint" style="left:{100 * settings[name] / scale:.3f}%"></div>'
        for name in ("borderline_share", "over_share")
    )
    lines = [
        f'<p class="dim">p99 of inference; the solid line is the whole period of {period_ms:g} ms '
        f"({settings['control_rate_hz']:g} Hz), the dashed ones are where borderline "
        f"({100 * settings['borderline_share']:.0f} %) and over budget ({100 * settings['over_share']:.0f} %) begin; "
        "bars end at two periods</p>"
    ]
    for row in ran:
        share, verdict = row["control_period"]["inference_p99_share"], row["control_period"]["verdict"]
        width = 100 * min(share / scale, 1.0)
        bar = f'<div class="bar" style="width:{width:.3f}%;background:{VERDICT_COLORS[verdict]}"></div>'
        lines.append(_chart(row["backend"], f"{100 * share:.1f} % {verdict.replace('_', ' ')}", bar + marks))
    return lines


def _chart(name: str, value: str, bars: str) -> str:
    return (
        f'<div class="row"><div class="name"><b>{escape(name)}</b><span>{escape(value)}</span></div>'
        f'<div class="track">{bars}</div></div>'
    )


def _distributions(ran: Sequence[Document]) -> list[str]:
    """One histogram of the whole frame a backend, all on one logarithmic axis, so that no frame is left out."""
    every = [value for row in ran for value in row["samples_ms"]["total"]]
    low, high = min(every) * 0.98, max(every) * 1.02
    edges = np.geomspace(low, high, _BINS + 1)
    axis = "".join(f"<span>{_rounded(value)} ms</span>" for value in np.geomspace(low, high, 5))
    parts = [
        '<p class="dim">whole frames, logarithmic axis; lines: p50 (solid) and p99 (dashed); nothing is left out</p>'
    ]
    for row in ran:
        counts, _ = np.histogram(row["samples_ms"]["total"], bins=edges)
        heights = counts / counts.max() * _CHART_HEIGHT * 0.95
        boxes = "".join(
            f'<rect x="{index}" y="{_CHART_HEIGHT - height:.2f}" width="0.9" height="{height:.2f}" fill="#0072b2"/>'
            for index, height in enumerate(heights)
            if height
        )
        figures = row["stages_ms"]["total"]
        marks = "".join(
            f'<line x1="{x:.3f}" x2="{x:.3f}" y1="0" y2="{_CHART_HEIGHT:g}" stroke="#d55e00" stroke-width="2" '
            f'stroke-dasharray="{dashes}" vector-effect="non-scaling-stroke"/>'
            for x, dashes in (
                (_BINS * math.log(figures["p50"] / low) / math.log(high / low), "none"),
                (_BINS * math.log(figures["p99"] / low) / math.log(high / low), "4 3"),
            )
        )
        told = f"p50 {figures['p50']:.2f}, p99 {figures['p99']:.2f}, max {figures['max']:.2f} ms"
        parts.append(
            f'<div class="row"><div class="name"><b>{escape(row["backend"])}</b><span>{told}</span></div>'
            f'<svg viewBox="0 0 {_BINS} {_CHART_HEIGHT:g}" preserveAspectRatio="none" role="img" '
            f'aria-label="distribution of {escape(row["backend"])}: {told}">{boxes}{marks}</svg></div>'
        )
    return [*parts, f'<div class="axis">{axis}</div>']


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _details(row: Document, reference: str) -> str:
    tables = "".join(_table(table) for table in (stage_table(row), batch_table(row)) if table)
    return (
        f"<h3>{escape(row['backend'])}</h3><p>{escape(facts(row))}</p><p>{escape(agreement_line(row, reference))}</p>"
        + tables
    )


def _environment(document: Document) -> str:
    lines = []
    for part in ("environment", "settings", "pictures"):
        for name, value in document[part].items():
            lines.append([f"{part}.{name}", value if isinstance(value, str) else json.dumps(value)])
    cells = "".join(f'<tr><td>{escape(n)}</td><td class="dim">{escape(v)}</td></tr>' for n, v in lines)
    return f'<table class="facts"><tbody>{cells}</tbody></table>'
