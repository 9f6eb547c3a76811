"""The verdict's levels, its hysteresis on an injected clock, and the sentence."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_perception.control_budget import (
    BudgetAccountant,
    BudgetThresholds,
    ControlPeriod,
    UnitedBudget,
    Verdict,
    VerdictTracker,
    budget_sentence,
)

MS = 1_000_000
S = 1000 * MS


def changes(shares: list[float], step_ns: int, thresholds: BudgetThresholds) -> list[tuple[float, Verdict]]:
    """Feeds a share every `step_ns`; returns when (s) the verdict changed, and to what."""
    tracker = VerdictTracker(thresholds)
    seen: list[tuple[float, Verdict]] = []
    for number, share in enumerate(shares):
        verdict = tracker.update(share, number * step_ns)
        if not seen or seen[-1][1] is not verdict:
            seen.append((number * step_ns / S, verdict))
    return seen


@pytest.mark.parametrize(
    ("inference_us", "percent", "verdict"), [(371, "1.9 %", Verdict.REAL_TIME), (6773, "33.9 %", Verdict.BORDERLINE)]
)
def test_the_two_known_latencies_on_a_20_ms_period(inference_us: int, percent: str, verdict: Verdict) -> None:
    budget = UnitedBudget(["inference_latency"], ControlPeriod(20 * MS))
    for frame in range(300):
        start_ns = frame * 33 * MS
        budget.add("inference_latency", start_ns, start_ns + inference_us * 1000, start_ns + 30 * MS)
    report = budget.report(300 * 33 * MS).total
    assert report.verdict is verdict
    p99 = f"{inference_us / 200:.0f}"
    assert report.sentence == (f"inference uses {percent} of the 20.0 ms control period (p99 {p99} %): {verdict.label}")


def test_the_sentence() -> None:
    sentence = budget_sentence(1, 0.25, 0.41, 0.3387, 20 * MS, Verdict.BORDERLINE)
    assert sentence == "inference uses 33.9 % of the 20.0 ms control period (p99 41 %): borderline"
    sentence = budget_sentence(2, 0.25, 0.41, 0.3387, 20 * MS, Verdict.BORDERLINE)
    assert sentence == "2 detectors together use 25.0 % of the 20.0 ms control period (p99 41 %): borderline"


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (0.0, Verdict.REAL_TIME),
        (0.2499, Verdict.REAL_TIME),
        (0.25, Verdict.BORDERLINE),
        (0.7999, Verdict.BORDERLINE),
        (0.80, Verdict.OVER_BUDGET),
        (1.0, Verdict.OVER_BUDGET),
    ],
)
def test_the_first_share_sets_the_level(share: float, verdict: Verdict) -> None:
    assert VerdictTracker(BudgetThresholds()).update(share, 0) is verdict


def test_a_share_that_hovers_at_a_threshold_changes_the_verdict_once() -> None:
    rng = random.Random(1)
    shares = [0.1] + [0.25 + rng.uniform(-0.015, 0.015) for _ in range(1000)]
    without = changes(shares, S // 10, BudgetThresholds(margin_share=0.0, hold_ns=0))
    assert len(without) > 100
    assert [verdict for _, verdict in changes(shares, S // 10, BudgetThresholds(hold_ns=0))] == [
        Verdict.REAL_TIME,
        Verdict.BORDERLINE,
    ]


def test_rare_outliers_that_come_and_go_do_not_flap_the_verdict() -> None:
    # The p99 jumps by far more than the margin whenever the window holds one outlier more than 1 %.
    shares = [1.0 if number % 15 < 5 else 0.15 for number in range(600)]
    assert len(changes(shares, S // 10, BudgetThresholds(hold_ns=0))) > 70
    assert changes(shares, S // 10, BudgetThresholds(hold_ns=2 * S)) == [(0.0, Verdict.OVER_BUDGET)]


def test_it_rises_at_once_and_falls_after_the_hold() -> None:
    shares = [0.1] * 10 + [0.9] * 10 + [0.1] * 50
    assert changes(shares, S // 10, BudgetThresholds(hold_ns=2 * S)) == [
        (0.0, Verdict.REAL_TIME),
        (1.0, Verdict.OVER_BUDGET),
        (4.0, Verdict.REAL_TIME),
    ]


def test_it_falls_to_the_worst_level_of_the_hold() -> None:
    shares = [0.9] + [0.1] * 10 + [0.5] * 5 + [0.1] * 30
    assert changes(shares, S // 10, BudgetThresholds(hold_ns=2 * S)) == [
        (0.0, Verdict.OVER_BUDGET),
        (2.1, Verdict.BORDERLINE),
        (4.2, Verdict.REAL_TIME),
    ]


def test_it_stays_within_the_margin_and_falls_below_it() -> None:
    limits = BudgetThresholds(margin_share=0.02, hold_ns=0)
    assert changes([0.26, 0.235], S, limits) == [(0.0, Verdict.BORDERLINE)]
    assert changes([0.26, 0.225], S, limits) == [(0.0, Verdict.BORDERLINE), (1.0, Verdict.REAL_TIME)]


def test_no_inference_makes_it_unknown_at_once_and_the_next_share_decides_alone() -> None:
    tracker = VerdictTracker(BudgetThresholds())
    assert tracker.verdict is Verdict.UNKNOWN
    assert tracker.update(0.9, 0) is Verdict.OVER_BUDGET
    assert tracker.update(None, 1) is Verdict.UNKNOWN
    assert tracker.update(0.1, 2) is Verdict.REAL_TIME


@given(st.lists(st.floats(0, 1), max_size=60))
def test_it_is_never_better_than_the_share_of_the_moment(shares: list[float]) -> None:
    tracker = VerdictTracker(BudgetThresholds())
    for number, share in enumerate(shares):
        assert tracker.update(share, number * S // 4) >= tracker.thresholds.level(share)


def test_one_full_overrun_a_second_is_over_budget_however_many_periods_are_idle() -> None:
    account = BudgetAccountant(ControlPeriod(20 * MS))
    account.advance(0)
    for second in range(10):
        start_ns = second * S
        account.add(start_ns, start_ns + 20 * MS, start_ns + 20 * MS)
    figures = account.figures(10 * S, BudgetThresholds())
    assert figures.all_periods is not None and figures.with_inference is not None
    assert figures.all_periods.mean_share == pytest.approx(0.02)
    assert BudgetThresholds().level(figures.with_inference.p99_share) is Verdict.OVER_BUDGET


def test_a_detector_that_becomes_slow_and_recovers_goes_up_once_and_down_once() -> None:
    budget = UnitedBudget(["inference_latency"], ControlPeriod(20 * MS))
    seen: dict[Verdict, list[float]] = {}
    previous = None
    for frame in range(60 * 20):
        start_ns = frame * 50 * MS
        length_ns = 25 * MS if 20 * S <= start_ns < 30 * S else 3 * MS
        budget.add("inference_latency", start_ns, start_ns + length_ns, start_ns + length_ns + 2 * MS)
        verdict = budget.report(start_ns + 40 * MS).total.verdict
        if verdict is not previous:
            seen.setdefault(verdict, []).append(start_ns / S)
            previous = verdict
    # 25 ms that begin in the middle of a period fill none of them, so the way up and down may lead over borderline.
    assert [len(seen[verdict]) for verdict in (Verdict.REAL_TIME, Verdict.OVER_BUDGET)] == [2, 1]
    assert len(seen.get(Verdict.BORDERLINE, [])) <= 2
    assert 20.0 <= seen[Verdict.OVER_BUDGET][0] <= 21.0
    assert 40.0 <= seen[Verdict.REAL_TIME][1] <= 45.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin_share": -0.1},
        {"margin_share": 0.25},
        {"borderline_share": 0.8},
        {"over_share": 1.1},
        {"over_share": float("nan")},
    ],
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected 0 <= margin < borderline < over <= 1"):
        replace(BudgetThresholds(), **wrong)
    with pytest.raises(ValueError, match="hold is -1 ns"):
        BudgetThresholds(hold_ns=-1)
