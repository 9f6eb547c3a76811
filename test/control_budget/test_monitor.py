"""The monitor without its messages: given or learned period, and what it says is wrong."""

from __future__ import annotations

import pytest

from trt_perception.control_budget import BudgetMonitor, BudgetThresholds, Verdict

MS = 1_000_000
S = 1000 * MS
TOPIC = "/inference_latency"


def latency_ms(inference_ms: float) -> dict[str, float]:
    return {"inference_start_offset_ms": 0.0, "inference_ms": inference_ms}


def feed(monitor: BudgetMonitor, from_s: int, to_s: int, control_hz: int = 0) -> None:
    """3 ms every 50 ms, and a control loop of `control_hz`, in the order in which they come."""
    frames = range(from_s * S, to_s * S, 50 * MS)
    ticks = range(from_s * S, to_s * S, S // control_hz) if control_hz else range(0)
    for time_ns, is_frame in sorted([(at, True) for at in frames] + [(at, False) for at in ticks]):
        if is_frame:
            monitor.add_latency(TOPIC, time_ns, latency_ms(3.0), time_ns + 4 * MS)
        else:
            monitor.add_control_arrival(time_ns)


def test_3_ms_at_20_hz_on_a_50_hz_loop() -> None:
    monitor = BudgetMonitor([TOPIC], 50.0)
    feed(monitor, 0, 10)
    report = monitor.report(10 * S)
    total = report.united.total
    assert total.figures.with_inference is not None and total.figures.all_periods is not None
    assert total.figures.with_inference.mean_share == pytest.approx(0.15)
    assert total.figures.all_periods.mean_share == pytest.approx(0.06)
    assert total.verdict is Verdict.REAL_TIME
    assert report.learned is None and report.problems == ()


def test_the_rate_changes_while_running() -> None:
    monitor = BudgetMonitor([TOPIC], 50.0)
    feed(monitor, 0, 10)
    monitor.set_rate_hz(250.0)
    monitor.set_thresholds(BudgetThresholds(over_share=0.7))
    total = monitor.report(10 * S).united.total
    assert total.verdict is Verdict.OVER_BUDGET
    assert total.sentence == "inference uses 75.0 % of the 4.0 ms control period (p99 75 %): over_budget"
    with pytest.raises(ValueError, match="make the window longer"):
        monitor.set_rate_hz(0.09)
    assert monitor.report(10 * S).united.total.figures.period.period_ns == 4 * MS


def test_a_learned_period_replaces_the_given_one_and_follows_the_loop() -> None:
    monitor = BudgetMonitor([TOPIC], 10.0, learns=True)
    early = monitor.report(0)
    assert early.learned is None
    assert early.problems == (
        "the control topic's period is not known (too few messages, or no rhythm): 100 ms from control_rate_hz is used",
    )
    feed(monitor, 0, 2, control_hz=50)
    report = monitor.report(2 * S)
    assert report.learned is not None and report.problems == ()
    assert report.united.total.figures.period.period_ns == pytest.approx(20 * MS, rel=1e-3)
    feed(monitor, 2, 4, control_hz=100)
    assert monitor.report(4 * S).united.total.figures.period.period_ns == pytest.approx(10 * MS, rel=1e-3)


def test_a_control_topic_that_falls_silent_is_said() -> None:
    monitor = BudgetMonitor([TOPIC], 50.0, learns=True)
    feed(monitor, 0, 2, control_hz=100)
    assert monitor.report(2 * S).learned is not None
    silent = monitor.report(5 * S)
    assert silent.learned is None and len(silent.problems) == 1


def test_an_unusable_message_is_said_for_a_while() -> None:
    monitor = BudgetMonitor([TOPIC], 50.0)
    assert not monitor.add_latency(TOPIC, 0, {"total_ms": 3.0}, 0)
    (problem,) = monitor.report(4 * S).problems
    assert problem.startswith("/inference_latency: latency message has no inference_start_offset_ms")
    assert monitor.report(6 * S).problems == ()


def test_discarded_inferences_are_said_for_a_while() -> None:
    monitor = BudgetMonitor([TOPIC], 50.0)
    assert not monitor.add_latency(TOPIC, 0, latency_ms(3.0), 10 * S)
    assert not monitor.add_latency(TOPIC, 20 * S, latency_ms(3.0), 10 * S)
    (problem,) = monitor.report(10 * S).problems
    assert problem.startswith("inferences were discarded, 1 reported too late and 1 that lie in the future")
    assert monitor.report(16 * S).problems == ()


def test_a_topic_that_is_not_watched_is_refused() -> None:
    with pytest.raises(KeyError, match="expected one of /inference_latency"):
        BudgetMonitor([TOPIC], 50.0).add_latency("/other", 0, latency_ms(3.0), 0)
