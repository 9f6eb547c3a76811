"""The budget as lines of text: what `trt-perception budget` shows while it follows the control loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trt_perception.control_budget.report_names import TOPIC_SEPARATOR, topics_in
from trt_perception.control_budget.verdict import BudgetThresholds, Verdict

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_CHART_ROWS = 6
_AXIS_WIDTH = 7
_COLORS = {
    Verdict.REAL_TIME: "\x1b[32m",
    Verdict.BORDERLINE: "\x1b[33m",
    Verdict.OVER_BUDGET: "\x1b[31m",
    Verdict.UNKNOWN: "\x1b[90m",
}
_NO_COLOR = "\x1b[0m"
_PERCENTILES = ("mean", "p50", "p95", "p99", "max", "last")
# Shown below the table when known: name, label, format.
_DETAILS = (
    ("headroom_p99_ms", "headroom at p99", "{:.2f} ms"),
    ("latency_ratio_percent", "mean latency / period", "{:.1f} %"),
    ("inference_mean_ms", "inference mean", "{:.2f} ms"),
    ("inference_max_ms", "inference max", "{:.2f} ms"),
    ("periods_seen_count", "periods seen", "{:.0f}"),
    ("periods_with_inference_count", "with inference", "{:.0f}"),
    ("periods_over_warn_count", "borderline or worse", "{:.0f}"),
    ("periods_over_error_count", "over budget", "{:.0f}"),
    ("periods_over_error_streak_count", "longest streak over", "{:.0f}"),
    ("intervals_discarded_late_count", "reported too late", "{:.0f}"),
    ("control_jitter_p99_ms", "control jitter p99", "{:.3f} ms"),
)


@dataclass(frozen=True)
class BudgetView:
    """What is known at one moment: the figures of `control_budget` by name, the sentence, recent shares.

    `shares` are the busy shares (0-1) of the last control periods, oldest first.
    """

    named: Mapping[str, float]
    sentence: str
    shares: Sequence[float]

    @property
    def verdict(self) -> Verdict:
        """The verdict that the figures speak of; UNKNOWN when they do not."""
        return Verdict(int(self.named.get("verdict_level", Verdict.UNKNOWN)))


def view_lines(view: BudgetView, thresholds: BudgetThresholds, width: int = 100, color: bool = False) -> list[str]:
    """The view as lines of at most `width` columns (at least 40), with ANSI colours when `color`."""
    width = max(width, 40)
    lines = [_painted(view.verdict.label.upper(), view.verdict, color), view.sentence[:width], ""]
    lines += share_chart(view.shares, thresholds, width, color)
    lines += ["", *_share_table(view.named), "", *_details(view.named)]
    topics = topics_in(view.named)
    if len(topics) > 1:
        lines += ["", *(_topic_line(view.named, topic, color) for topic in topics)]
    return lines


def share_chart(shares: Sequence[float], thresholds: BudgetThresholds, width: int, color: bool = False) -> list[str]:
    """One bar for each of the newest periods that fit into `width` columns, newest at the right, 0 to 100 %."""
    newest = list(shares)[-(width - _AXIS_WIDTH) :]
    lines = []
    for row in range(_CHART_ROWS - 1, -1, -1):
        bars = "".join(_cell(share, row, thresholds, color) for share in newest)
        lines.append(f"{_axis_label(row):>{_AXIS_WIDTH - 1}}│{bars}")
    lines.append(" " * (_AXIS_WIDTH - 1) + "└" + "─" * len(newest))
    lines.append(f"busy share of the last {len(newest)} control periods, newest right")
    return lines


def _axis_label(row: int) -> str:
    return {_CHART_ROWS - 1: "100 %", _CHART_ROWS // 2 - 1: "50 %"}.get(row, "")


def _cell(share: float, row: int, thresholds: BudgetThresholds, color: bool) -> str:
    eighths = round(share * _CHART_ROWS * 8) - row * 8
    if row == 0 and share > 0.0:
        # A share too small for an eighth of a row is still not an idle period.
        eighths = max(eighths, 1)
    return _painted(_EIGHTHS[min(max(eighths, 0), 8)], thresholds.level(share), color and eighths > 0)


def _painted(text: str, verdict: Verdict, color: bool) -> str:
    return f"{_COLORS[verdict]}{text}{_NO_COLOR}" if color else text


def _share_table(named: Mapping[str, float]) -> list[str]:
    lines = ["share of a period, %    " + "".join(f"{name:>8}" for name in _PERCENTILES)]
    for prefix, label in (("inference_share", "with inference"), ("all_periods_share", "all periods")):
        values = (named.get(f"{prefix}_{name}_percent") for name in _PERCENTILES)
        lines.append(f"  {label:<22}" + "".join("       -" if value is None else f"{value:>8.1f}" for value in values))
    return lines


def _details(named: Mapping[str, float]) -> list[str]:
    known = [f"{label:<22}{form.format(named[name]):>12}" for name, label, form in _DETAILS if name in named]
    half = (len(known) + 1) // 2
    right = [*known[half:], ""]
    return [f"  {left}    {right[number]}".rstrip() for number, left in enumerate(known[:half])]


def _topic_line(named: Mapping[str, float], topic: str, color: bool) -> str:
    own = {name: named[f"{topic}{TOPIC_SEPARATOR}{name}"] for name in _TOPIC_NAMES if f"{topic}:{name}" in named}
    verdict = Verdict(int(own["verdict_level"]))
    p99 = own.get("inference_share_p99_percent")
    share = "no inference" if p99 is None else f"p99 {p99:.1f} %, {own['inference_mean_ms']:.2f} ms"
    return f"  {topic}: {share}, {_painted(verdict.label, verdict, color)}"


_TOPIC_NAMES = ("verdict_level", "inference_share_p99_percent", "inference_mean_ms")
