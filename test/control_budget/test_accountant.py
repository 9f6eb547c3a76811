"""The accountant, case by case; times in the tests are in ns with a period of 20 unless they are in ms."""

from __future__ import annotations

from typing import Any

import pytest

from trt_perception.control_budget import BudgetAccountant, BudgetFigures, BudgetThresholds, ControlPeriod

MS = 1_000_000
LIMITS = BudgetThresholds(hold_ns=0)


def accountant(period_ns: int = 20, phase_ns: int = 0, **settings: Any) -> BudgetAccountant:
    settings = {"window_ns": 1000, "lateness_ns": 500, **settings}
    return BudgetAccountant(ControlPeriod(period_ns, phase_ns), **settings)


def busy_of(account: BudgetAccountant, now_ns: int) -> list[int]:
    return [round(share * account.period.period_ns) for _, share in account.shares(now_ns)]


def figures_of(intervals: list[tuple[int, int]], now_ns: int, **settings: Any) -> BudgetFigures:
    account = accountant(**settings)
    account.advance(0)
    for start_ns, end_ns in intervals:
        account.add(start_ns, end_ns, end_ns)
    return account.figures(now_ns, LIMITS)


def test_a_long_inference_spreads_over_several_periods() -> None:
    account = accountant()
    account.advance(0)
    account.add(15, 70, 70)
    assert busy_of(account, 100) == [5, 20, 20, 10, 0]


def test_several_short_inferences_in_a_period_add_up() -> None:
    account = accountant()
    account.advance(0)
    for start in (1, 5, 9):
        account.add(start, start + 2, 11)
    assert busy_of(account, 20) == [6]


def test_overlapping_inferences_count_once() -> None:
    account = accountant()
    account.advance(0)
    account.add(0, 10, 10)
    account.add(5, 12, 12)
    account.add(6, 8, 12)
    assert busy_of(account, 20) == [12]
    assert account.busy_total_ns == 12
    assert account.held_count == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)])
def test_inferences_that_touch_are_held_as_one(order: tuple[int, ...]) -> None:
    account = accountant()
    for number in order:
        account.add(10 * number, 10 * number + 10, 40)
    assert account.held_count == 1
    assert busy_of(account, 40) == [20, 10]


def test_an_inference_that_ends_on_a_tick_stays_in_its_period() -> None:
    account = accountant()
    account.advance(0)
    account.add(20, 40, 40)
    assert busy_of(account, 60) == [0, 20, 0]


def test_phase_moves_the_boundaries() -> None:
    account = accountant(phase_ns=1_000_000_007)
    account.advance(7)
    account.add(5, 30, 30)
    assert account.shares(47) == [(-13, 0.1), (7, 1.0), (27, 0.15)]


def test_reports_in_any_order_give_the_same_shares() -> None:
    intervals = [(3, 9), (45, 52), (18, 23), (70, 95)]
    in_order, reverse = accountant(), accountant()
    for account, sequence in ((in_order, intervals), (reverse, intervals[::-1])):
        account.advance(0)
        for start, end in sequence:
            account.add(start, end, 100)
    assert busy_of(in_order, 100) == busy_of(reverse, 100) == [8, 3, 7, 10, 15]


def test_late_and_future_intervals_are_counted_as_discarded() -> None:
    account = accountant(lateness_ns=50)
    account.advance(200)
    assert not account.add(100, 149, 200)
    assert account.add(100, 150, 200)
    assert account.add(240, 250, 200)
    assert not account.add(240, 251, 200)
    figures = account.figures(260, LIMITS)
    counts = (figures.accepted_count, figures.discarded_late_count, figures.discarded_future_count)
    assert counts == (2, 1, 1)
    assert account.busy_total_ns == 60


def test_a_long_inference_reported_at_its_end_is_not_late() -> None:
    account = accountant(lateness_ns=50)
    for now in range(0, 401, 10):
        account.advance(now)
    assert account.add(0, 400, 400)
    assert busy_of(account, 400) == [20] * 20


def test_figures_over_periods_with_inference_and_over_all() -> None:
    # 100 periods, one in ten busy for 5, one of those for 20.
    figures = figures_of([(20 * k, 20 * k + (20 if k == 50 else 5)) for k in range(0, 100, 10)], 2000, window_ns=2000)
    assert figures.all_periods is not None and figures.with_inference is not None
    assert figures.all_periods.period_count == 100
    assert figures.with_inference.period_count == 10
    assert figures.with_inference.mean_share == pytest.approx((9 * 0.25 + 1.0) / 10)
    assert figures.all_periods.mean_share == pytest.approx((9 * 0.25 + 1.0) / 100)
    assert (figures.with_inference.p50_share, figures.with_inference.p99_share) == (0.25, 1.0)
    assert (figures.all_periods.p50_share, figures.all_periods.p95_share, figures.all_periods.p99_share) == (
        0,
        0.25,
        0.25,
    )
    assert figures.all_periods.max_share == 1.0
    assert (figures.with_inference.last_share, figures.all_periods.last_share) == (0.25, 0.0)
    assert (figures.over_warn_count, figures.over_error_count) == (10, 1)
    assert figures.headroom_p99_ns == 0.0
    assert figures.latency_ratio == pytest.approx((9 * 5 + 20) / 10 / 20)


def test_the_streak_is_broken_by_an_idle_period_only() -> None:
    figures = figures_of([(0, 60), (80, 160), (180, 196), (200, 215)], 240)
    assert figures.longest_over_streak_count == 4
    assert figures.over_error_count == 8


def test_nothing_is_known_before_the_first_complete_period() -> None:
    figures = figures_of([(5, 10)], 19)
    assert figures.all_periods is None and figures.with_inference is None and figures.headroom_p99_ns is None


def test_the_window_forgets_and_memory_stays_bounded() -> None:
    account = accountant()
    for k in range(10_000):
        account.add(20 * k, 20 * k + 5, 20 * k + 5)
    assert account.held_count <= 2 * 1000 // 20 + 1
    figures = account.figures(200_000, LIMITS)
    assert figures.all_periods is not None and figures.all_periods.period_count == 50
    assert figures.busy_ns == 50 * 5
    assert account.busy_total_ns == 50_000
    assert figures.latency is not None and figures.latency.inference_count == 50


def test_a_full_memory_shortens_the_window_instead_of_miscounting() -> None:
    account = accountant(capacity=10)
    for k in range(40):
        account.add(20 * k, 20 * k + 5, 20 * k + 5)
    assert account.held_count == 10
    assert busy_of(account, 800) == [5] * 10


def test_a_gap_of_a_billion_periods_is_closed_form() -> None:
    account = accountant()
    account.add(0, 5, 5)
    account.add(20 * 10**9, 20 * 10**9 + 7, 20 * 10**9 + 7)
    assert busy_of(account, 20 * 10**9 + 20) == [0] * 49 + [7]
    assert account.busy_total_ns == 12


def test_an_inference_of_a_billion_periods_is_closed_form() -> None:
    account = accountant(window_ns=20 * 10**9)
    account.advance(0)
    account.add(10, 20 * 10**9 - 10, 20 * 10**9)
    figures = account.figures(20 * 10**9, LIMITS)
    assert figures.all_periods is not None
    assert figures.all_periods.period_count == 10**9
    assert figures.busy_ns == 20 * 10**9 - 20
    assert figures.longest_over_streak_count == 10**9 - 2
    assert figures.over_warn_count == 10**9


def test_a_new_period_judges_the_whole_window() -> None:
    account = accountant()
    account.advance(0)
    account.add(15, 70, 70)
    account.set_period(ControlPeriod(50, 10))
    assert account.shares(110) == [(-40, 0.0), (10, 0.9), (60, 0.2)]
    account.set_period(ControlPeriod(20))
    assert busy_of(account, 110) == [5, 20, 20, 10, 0]


def test_a_clock_set_back_starts_anew() -> None:
    account = accountant(lateness_ns=50)
    account.add(1000, 1010, 1010)
    account.add(961, 965, 965)
    assert account.busy_total_ns == 14
    account.advance(0)
    account.add(0, 10, 10)
    assert account.busy_total_ns == 10
    assert busy_of(account, 40) == [10, 0]


class CountingInt(int):
    """An integer that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: int) -> bool:
        CountingInt.comparisons += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        CountingInt.comparisons += 1
        return int(self) > int(other)

    def __le__(self, other: int) -> bool:
        CountingInt.comparisons += 1
        return int(self) <= int(other)

    def __ge__(self, other: int) -> bool:
        CountingInt.comparisons += 1
        return int(self) >= int(other)


def comparisons_of_one_frame(held: int) -> int:
    account = accountant(window_ns=100 * held, lateness_ns=100)
    for k in range(2 * held):
        account.add(CountingInt(100 * k), CountingInt(100 * k + 30), 100 * k + 30)
    CountingInt.comparisons = 0
    account.add(CountingInt(200 * held), CountingInt(200 * held + 30), 200 * held + 30)
    return CountingInt.comparisons


def test_the_cost_of_a_frame_grows_with_the_logarithm_of_the_window() -> None:
    small, large = comparisons_of_one_frame(64), comparisons_of_one_frame(64 * 1024)
    # Two binary searches, each ten steps longer when there are 1024 times as many intervals.
    assert 0 < large - small <= 2 * 10 + 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_ns": 19}, "make the window longer"),
        ({"lateness_ns": 1001}, "lateness is 1001 ns"),
        ({"lateness_ns": -1}, "lateness is -1 ns"),
        ({"capacity": 0}, "capacity is 0"),
        ({"period_ns": 0}, "control period is 0 ns"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accountant(**{"lateness_ns": 10, **settings})


def test_an_interval_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="ends 3 ns before it starts"):
        accountant().add(10, 7, 10)


def test_rates_become_periods() -> None:
    assert ControlPeriod.from_rate_hz(50.0).period_ns == 20 * MS
    for rate_hz in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="control rate is"):
            ControlPeriod.from_rate_hz(rate_hz)
