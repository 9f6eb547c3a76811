"""Ratios between rows, the accuracy that was lost, and the one backend to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_perception.benchmark.bench_subject import TOTAL
from trt_perception.benchmark.pace import paces
from trt_perception.benchmark.plan import BenchPlan
from trt_perception.benchmark.row import Row, share_of
from trt_perception.control_budget import Verdict

# A backend that agrees with the reference on fewer detections than this is not recommended where no labels decide.
LEAST_AGREEMENT = 0.9
# Nor one that loses more than this of mAP50-95, where labels decide and --max-map-drop gives no other number.
DEFAULT_MAP_DROP = 0.02


@dataclass(frozen=True)
class Recommendation:
    """backend: None where none ran accurately; sentence: which, and why."""

    backend: str | None
    sentence: str


def total_paces(rows: Sequence[Row], plan: BenchPlan) -> dict[str, float]:
    """Name → pace of the whole frame (see paces) of every row that ran: what ranks backends."""
    return paces({row.name: row.samples_ms[TOTAL] for row in rows if row.ran}, plan.runs_per_block)


def map_drop(row: Row, reference: Row) -> float | None:
    """mAP50-95 of the reference minus that of the row, None without labels."""
    if row.precision is None or reference.precision is None:
        return None
    return reference.precision.map50_95 - row.precision.map50_95


def inaccuracy(row: Row, reference: Row, plan: BenchPlan) -> str | None:
    """Why a row is too inaccurate to be recommended, None where it is not."""
    drop = map_drop(row, reference)
    limit = DEFAULT_MAP_DROP if plan.max_map_drop is None else plan.max_map_drop
    if drop is not None:
        return f"{row.name} lost {drop:.3f} of mAP50-95 (at most {limit:g})" if drop > limit else None
    if row.agreement is not None and row.agreement.share < LEAST_AGREEMENT:
        return f"{row.name} agrees with {reference.name} on {100 * row.agreement.share:.0f} % of detections only"
    return None


def recommend(rows: Sequence[Row], plan: BenchPlan) -> Recommendation:
    """The accurate backend whose whole frame has the lowest p99: a control loop feels the slow frames."""
    ran = [row for row in rows if row.ran]
    if not ran:
        return Recommendation(None, "no backend can run; see the reasons")
    reference = rows[plan.reference]
    refused = [text for row in ran if reference.ran and (text := inaccuracy(row, reference, plan))]
    accurate = [row for row in ran if not reference.ran or inaccuracy(row, reference, plan) is None]
    if not accurate:
        return Recommendation(None, f"none is accurate enough: {'; '.join(refused)}")
    best = min(accurate, key=lambda row: row.summaries()[TOTAL].p99)
    share, total = share_of(best, plan), best.summaries()[TOTAL]
    loop = f"a control loop of {plan.control_rate_hz:g} Hz"
    over = share.verdict is Verdict.OVER_BUDGET
    start = f"none is fast enough for {loop}; nearest comes" if over else f"for {loop} take"
    words = (
        f"{start} {best.name}: p99 of a frame {total.p99:.2f} ms, its "
        f"inference at most {100 * share.inference_p99:.1f} % of the {plan.period_ms:g} ms period in 99 of 100 frames "
        f"({share.verdict.label})"
    )
    pace = total_paces(rows, plan)
    others = sorted((row.name for row in accurate if row is not best), key=pace.__getitem__)
    if others:
        words += f"; {others[0]} takes {pace[others[0]] / pace[best.name]:.2f} times as long"
    return Recommendation(best.name, "; ".join([words, *refused]))
