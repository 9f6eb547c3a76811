"""The accountant against brute force, on schedules that nobody would think of."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from test.control_budget.budget_oracle import BudgetOracle, length_ns, longest_run, mean_share, nearest_rank
from trt_perception.control_budget import BudgetAccountant, BudgetThresholds, ControlPeriod, ShareFigures

THRESHOLDS = BudgetThresholds()


@dataclass(frozen=True)
class Schedule:
    """Reports `(start, end, now)` in the order in which they come in, and the settings they are judged by."""

    period_ns: int
    phase_ns: int
    window_ns: int
    lateness_ns: int
    reports: list[tuple[int, int, int]]
    end_ns: int


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    period_ns = draw(st.integers(1, 40))
    window_ns = draw(st.integers(period_ns, 15 * period_ns))
    epoch_ns = draw(st.sampled_from([0, -1000, 1_700_000_000_000_000_000]))
    reports = []
    now_ns = epoch_ns
    for _ in range(draw(st.integers(0, 12))):
        now_ns += draw(st.integers(0, 3 * period_ns))
        end_ns = now_ns - draw(st.integers(-window_ns, 2 * window_ns))
        reports.append((end_ns - draw(st.integers(0, 3 * window_ns)), end_ns, now_ns))
    return Schedule(
        period_ns,
        draw(st.integers(-100, 100)),
        window_ns,
        draw(st.integers(0, window_ns)),
        reports,
        now_ns + draw(st.integers(0, 2 * window_ns)),
    )


def random_schedule(rng: np.random.Generator) -> Schedule:
    period_ns = int(rng.integers(1, 50))
    window_ns = int(rng.integers(period_ns, 12 * period_ns + 1))
    lateness_ns = int(rng.integers(0, window_ns + 1))
    reports = []
    now_ns = int(rng.integers(-100, 100))
    for _ in range(int(rng.integers(1, 12))):
        now_ns += int(rng.integers(0, 2 * period_ns))
        end_ns = now_ns - int(rng.integers(-2, lateness_ns + 3))
        reports.append((end_ns - int(rng.integers(0, 3 * period_ns)), end_ns, now_ns))
    phase_ns = int(rng.integers(-100, 100))
    return Schedule(period_ns, phase_ns, window_ns, lateness_ns, reports, now_ns + int(rng.integers(0, window_ns)))


def check_shares(shares: ShareFigures | None, busy_ns: list[int], period_ns: int) -> None:
    if not busy_ns:
        assert shares is None
        return
    assert shares is not None
    assert shares.period_count == len(busy_ns)
    assert Fraction(shares.mean_share) == pytest.approx(mean_share(busy_ns, period_ns), rel=1e-12)
    for percent, share in ((50, shares.p50_share), (95, shares.p95_share), (99, shares.p99_share)):
        assert share == nearest_rank(busy_ns, percent) / period_ns
    assert shares.max_share == max(busy_ns) / period_ns
    assert shares.last_share == busy_ns[-1] / period_ns


def check_against_oracle(schedule: Schedule) -> None:
    period = ControlPeriod(schedule.period_ns, schedule.phase_ns)
    account = BudgetAccountant(period, window_ns=schedule.window_ns, lateness_ns=schedule.lateness_ns)
    oracle = BudgetOracle(schedule.window_ns, schedule.lateness_ns)
    for report in schedule.reports:
        assert account.add(*report) == oracle.add(*report)
        assert account.busy_total_ns == length_ns(oracle.accepted)
    figures = account.figures(schedule.end_ns, THRESHOLDS)
    oracle.advance(schedule.end_ns)
    busy_ns = oracle.busy_by_period_ns(schedule.period_ns, schedule.phase_ns)
    window = (figures.window_start_ns, figures.window_end_ns)
    assert window[1] - window[0] == schedule.period_ns * len(busy_ns)
    inside = [(max(start, window[0]), min(end, window[1])) for start, end in oracle.accepted]
    assert figures.busy_ns == sum(busy_ns) == length_ns([(start, end) for start, end in inside if start < end])
    assert [share for _, share in account.shares(schedule.end_ns)] == [busy / schedule.period_ns for busy in busy_ns]
    check_shares(figures.all_periods, busy_ns, schedule.period_ns)
    check_shares(figures.with_inference, [busy for busy in busy_ns if busy], schedule.period_ns)
    over = [busy >= THRESHOLDS.over_share * schedule.period_ns for busy in busy_ns]
    assert figures.over_warn_count == sum(busy >= THRESHOLDS.borderline_share * schedule.period_ns for busy in busy_ns)
    assert figures.over_error_count == sum(over)
    assert figures.longest_over_streak_count == longest_run(over)
    counts = (figures.accepted_count, figures.discarded_late_count, figures.discarded_future_count)
    assert counts == (len(oracle.accepted), oracle.late_count, oracle.future_count)


@given(schedules())
@settings(max_examples=300, deadline=None)
def test_figures_equal_the_oracles(schedule: Schedule) -> None:
    check_against_oracle(schedule)


def test_figures_equal_the_oracles_on_ten_thousand_random_schedules() -> None:
    rng = np.random.default_rng(20)
    for _ in range(10_000):
        check_against_oracle(random_schedule(rng))


@given(schedules(), st.integers(1, 40), st.integers(-50, 50))
@settings(max_examples=150, deadline=None)
def test_a_period_changed_while_running_gives_what_it_would_have_given_from_the_start(
    schedule: Schedule, period_ns: int, phase_ns: int
) -> None:
    window_ns = max(schedule.window_ns, period_ns)
    changed = BudgetAccountant(
        ControlPeriod(schedule.period_ns, schedule.phase_ns), window_ns=window_ns, lateness_ns=schedule.lateness_ns
    )
    from_the_start = BudgetAccountant(
        ControlPeriod(period_ns, phase_ns), window_ns=window_ns, lateness_ns=schedule.lateness_ns
    )
    for report in schedule.reports:
        changed.add(*report)
        from_the_start.add(*report)
    changed.set_period(ControlPeriod(period_ns, phase_ns))
    assert changed.figures(schedule.end_ns, THRESHOLDS) == from_the_start.figures(schedule.end_ns, THRESHOLDS)
