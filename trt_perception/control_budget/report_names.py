"""The names under which the figures go out in `control_budget`: every one ends in its unit.

A figure that is not known (no inference in the window, no complete period yet) is absent, not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trt_perception.control_budget.figures import BudgetFigures, LatencyFigures, ShareFigures
from trt_perception.control_budget.period_learner import LearnedPeriod
from trt_perception.control_budget.united import BudgetReport, UnitedReport
from trt_perception.control_budget.verdict import Verdict, budget_sentence, typical_share

# Between the topic of one detector and the name of its figure.
TOPIC_SEPARATOR = ":"

_SHARES: dict[str, Callable[[ShareFigures], float]] = {
    "mean_percent": lambda shares: 100.0 * shares.mean_share,
    "p50_percent": lambda shares: 100.0 * shares.p50_share,
    "p95_percent": lambda shares: 100.0 * shares.p95_share,
    "p99_percent": lambda shares: 100.0 * shares.p99_share,
    "max_percent": lambda shares: 100.0 * shares.max_share,
    "last_percent": lambda shares: 100.0 * shares.last_share,
}
_LATENCY: dict[str, Callable[[LatencyFigures], float]] = {
    "inference_mean_ms": lambda latency: latency.mean_ns / 1e6,
    "inference_max_ms": lambda latency: latency.max_ns / 1e6,
    "inference_last_ms": lambda latency: latency.last_ns / 1e6,
    "inference_count": lambda latency: float(latency.inference_count),
}
_COUNTS: dict[str, Callable[[BudgetFigures], float]] = {
    "periods_over_warn_count": lambda figures: float(figures.over_warn_count),
    "periods_over_error_count": lambda figures: float(figures.over_error_count),
    "periods_over_error_streak_count": lambda figures: float(figures.longest_over_streak_count),
    "intervals_accepted_count": lambda figures: float(figures.accepted_count),
    "intervals_discarded_late_count": lambda figures: float(figures.discarded_late_count),
    "intervals_discarded_future_count": lambda figures: float(figures.discarded_future_count),
}
# Each detector also has its own few, under its topic; all of them for each would drown the total.
_BY_TOPIC = (
    "verdict_level",
    "inference_share_mean_percent",
    "inference_share_p99_percent",
    "inference_share_max_percent",
    "latency_ratio_percent",
    "inference_mean_ms",
    "inference_max_ms",
)


def named_figures(report: BudgetReport) -> dict[str, float]:
    """The figures of one report by name.

    `inference_share_*` are over the periods with inference, `all_periods_share_*` over all of the window.
    """
    figures = report.figures
    named = {"verdict_level": float(report.verdict), "control_period_ms": figures.period.period_ns / 1e6}
    named["control_phase_ms"] = figures.period.phase_ns % figures.period.period_ns / 1e6
    for prefix, shares in (("inference_share", figures.with_inference), ("all_periods_share", figures.all_periods)):
        if shares is not None:
            named |= {f"{prefix}_{name}": value(shares) for name, value in _SHARES.items()}
    named["periods_seen_count"] = float(figures.all_periods.period_count if figures.all_periods else 0)
    named["periods_with_inference_count"] = float(figures.with_inference.period_count if figures.with_inference else 0)
    named |= {name: value(figures) for name, value in _COUNTS.items()}
    if figures.headroom_p99_ns is not None:
        named["headroom_p99_ms"] = figures.headroom_p99_ns / 1e6
    if figures.latency is not None:
        named |= {name: value(figures.latency) for name, value in _LATENCY.items()}
    if figures.latency_ratio is not None:
        named["latency_ratio_percent"] = 100.0 * figures.latency_ratio
    return named


def named_report(report: UnitedReport, learned: LearnedPeriod | None) -> dict[str, float]:
    """Everything that goes out: the total by plain names, each detector's own few as `<topic>:<name>`.

    `learned` adds what a learned period comes with: its jitter, and how many arrivals were looked at.
    """
    named = named_figures(report.total)
    named["window_s"] = report.window_ns / 1e9
    named["borderline_threshold_percent"] = 100.0 * report.thresholds.borderline_share
    named["over_threshold_percent"] = 100.0 * report.thresholds.over_share
    if learned is not None:
        named["control_jitter_p99_ms"] = learned.jitter_p99_ns / 1e6
        named["control_arrivals_count"] = float(learned.arrival_count)
    for topic, own in report.by_topic.items():
        figures = named_figures(own)
        named |= {f"{topic}{TOPIC_SEPARATOR}{name}": figures[name] for name in _BY_TOPIC if name in figures}
    return named


def topics_in(named: Mapping[str, float]) -> list[str]:
    """The latency topics of the detectors that the figures `named` speak of, in order."""
    return list(dict.fromkeys(name.rsplit(TOPIC_SEPARATOR, 1)[0] for name in named if TOPIC_SEPARATOR in name))


def named_sentence(named: Mapping[str, float]) -> str:
    """The sentence of the total, from the figures that went out; raises KeyError for one that has to be there."""
    verdict = Verdict(int(named["verdict_level"]))
    if verdict is Verdict.UNKNOWN:
        return f"no inference within the last {named['window_s']:g} s"
    count, mean_share, ratio, period_ns = _typical(named)
    p99_share = named["inference_share_p99_percent"] / 100.0
    return budget_sentence(count, mean_share, p99_share, ratio, period_ns, verdict)


def named_caption(named: Mapping[str, float]) -> str:
    """The same in a few words, e.g. "inference 34 % of 20 ms, borderline"; raises KeyError as named_sentence does."""
    verdict = Verdict(int(named["verdict_level"]))
    if verdict is Verdict.UNKNOWN:
        return named_sentence(named)
    count, mean_share, ratio, period_ns = _typical(named)
    share = typical_share(count, mean_share, ratio)
    return f"inference {100 * share:.0f} % of {period_ns / 1e6:g} ms, {verdict.label}"


def _typical(named: Mapping[str, float]) -> tuple[int, float, float | None, int]:
    """How many detectors, mean share, ratio of the latency (None if not known), period in nanoseconds."""
    ratio = named.get("latency_ratio_percent")
    return (
        len(topics_in(named)),
        named["inference_share_mean_percent"] / 100.0,
        None if ratio is None else ratio / 100.0,
        round(named["control_period_ms"] * 1e6),
    )
