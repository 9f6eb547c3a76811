"""Several detectors, the latency message, and the names that go out."""

from __future__ import annotations

import math

import pytest

from trt_perception.control_budget import (
    BudgetThresholds,
    ControlPeriod,
    PeriodLearner,
    UnitedBudget,
    Verdict,
    inference_interval_ns,
    named_report,
    topics_in,
)

MS = 1_000_000
S = 1000 * MS
UNITS = ("_ms", "_s", "_percent", "_count", "_level")


def two_detectors() -> UnitedBudget:
    """Two detectors of 9 ms each in the same 20 ms periods, one after the other, ten times a second."""
    budget = UnitedBudget(["/front/latency", "/rear/latency"], ControlPeriod(20 * MS))
    for frame in range(50):
        start_ns = frame * 100 * MS
        budget.add("/front/latency", start_ns, start_ns + 9 * MS, start_ns + 20 * MS)
        budget.add("/rear/latency", start_ns + 9 * MS, start_ns + 18 * MS, start_ns + 20 * MS)
    return budget


def test_detectors_are_kept_apart_and_united() -> None:
    report = two_detectors().report(5 * S)
    assert [own.verdict for own in report.by_topic.values()] == [Verdict.BORDERLINE, Verdict.BORDERLINE]
    assert report.total.verdict is Verdict.OVER_BUDGET
    assert report.total.sentence == (
        "2 detectors together use 90.0 % of the 20.0 ms control period (p99 90 %): over_budget"
    )
    assert report.by_topic["/rear/latency"].sentence == (
        "inference uses 45.0 % of the 20.0 ms control period (p99 45 %): borderline"
    )


def test_a_device_shared_at_the_same_time_counts_once() -> None:
    budget = UnitedBudget(["a", "b"], ControlPeriod(20 * MS))
    budget.add("a", 0, 10 * MS, 10 * MS)
    budget.add("b", 5 * MS, 12 * MS, 12 * MS)
    assert budget.report(20 * MS).total.figures.busy_ns == 12 * MS
    assert budget.shares(20 * MS) == [(0, 0.6)]


def test_a_batch_of_four_cameras_counts_once() -> None:
    """Each camera reports the whole batch, from the stamp of its own image: the same interval."""
    topics = ["a", "b", "c", "d"]
    budget = UnitedBudget(topics, ControlPeriod(20 * MS))
    for frame in range(50):
        start_ns = 1_700_000_000 * S + frame * 100 * MS
        for index, topic in enumerate(topics):
            stamp_ns = start_ns - (3 + index) * MS - 123_457
            values = {"inference_start_offset_ms": (start_ns - stamp_ns) / 1e6, "inference_ms": 9.0}
            budget.add(topic, *inference_interval_ns(stamp_ns, values), start_ns + 12 * MS)
    report = budget.report(1_700_000_000 * S + 5 * S)
    assert report.total.figures.with_inference is not None
    assert report.total.figures.with_inference.mean_share == pytest.approx(0.45, abs=1e-5)
    assert report.total.figures.busy_ns == pytest.approx(50 * 9 * MS, abs=50 * 4)


def test_a_silent_detector_is_unknown_and_says_so() -> None:
    budget = UnitedBudget(["a"], ControlPeriod(20 * MS))
    budget.add("a", 0, MS, MS)
    assert budget.report(5 * S).total.verdict is Verdict.REAL_TIME
    silent = budget.report(60 * S).total
    assert silent.verdict is Verdict.UNKNOWN
    assert silent.sentence == "no inference within the last 10 s"


def test_period_and_thresholds_change_for_all() -> None:
    budget = two_detectors()
    budget.set_period(ControlPeriod(100 * MS))
    budget.set_thresholds(BudgetThresholds(borderline_share=0.05, margin_share=0.0, over_share=0.1))
    report = budget.report(5 * S)
    assert budget.period.period_ns == 100 * MS
    assert report.total.verdict is Verdict.OVER_BUDGET
    assert report.by_topic["/front/latency"].verdict is Verdict.BORDERLINE


@pytest.mark.parametrize("topics", [[], ["a", "a"]])
def test_topics_have_to_be_there_and_different(topics: list[str]) -> None:
    with pytest.raises(ValueError, match="expected one or more, each once"):
        UnitedBudget(topics, ControlPeriod(20 * MS))


def test_every_name_ends_in_its_unit_and_every_value_is_finite() -> None:
    learner = PeriodLearner()
    for number in range(50):
        learner.add(number * 20 * MS)
    learned = learner.estimate(S)
    named = named_report(two_detectors().report(5 * S), learned)
    assert [name for name in named if not name.endswith(UNITS)] == []
    assert all(math.isfinite(value) for value in named.values())
    assert named["verdict_level"] == 2.0
    assert named["inference_share_p99_percent"] == pytest.approx(90.0)
    assert named["all_periods_share_mean_percent"] == pytest.approx(18.0)
    assert named["headroom_p99_ms"] == pytest.approx(2.0)
    assert named["latency_ratio_percent"] == pytest.approx(45.0)
    assert named["periods_over_warn_count"] == 50.0
    assert named["control_period_ms"] == 20.0
    assert named["control_jitter_p99_ms"] == pytest.approx(0.0, abs=1e-3)
    assert named["/rear/latency:inference_mean_ms"] == pytest.approx(9.0)
    assert topics_in(named) == ["/front/latency", "/rear/latency"]


def test_what_is_not_known_is_absent() -> None:
    named = named_report(UnitedBudget(["a"], ControlPeriod(20 * MS)).report(0), None)
    assert named["verdict_level"] == 3.0
    assert named["periods_seen_count"] == 0.0
    unknown = ("_share_", "headroom", "jitter", "latency")
    assert [name for name in named if any(word in name for word in unknown)] == []


def test_the_busy_interval_of_a_latency_message() -> None:
    figures_ms = {"inference_start_offset_ms": 1.5, "inference_ms": 3.0, "total_ms": 99.0}
    assert inference_interval_ns(10 * S, figures_ms) == (10 * S + 1_500_000, 10 * S + 4_500_000)
    figures_ms |= {"host_to_device_ms": 0.25, "device_to_host_ms": 0.5}
    assert inference_interval_ns(10 * S, figures_ms) == (10 * S + 1_500_000, 10 * S + 5_250_000)
    assert inference_interval_ns(0, figures_ms | {"inference_start_offset_ms": -2.0})[0] == -2 * MS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inference_ms": float("nan")}, "inference_ms = nan; expected a finite number"),
        ({"inference_ms": -1.0}, "inference_ms = -1.0 ms; expected 0 or more"),
        ({"host_to_device_ms": -1.0}, "host_to_device_ms = -1.0 ms"),
        ({"inference_start_offset_ms": float("inf")}, "inference_start_offset_ms = inf"),
    ],
)
def test_a_wrong_latency_message_is_refused_with_the_reason(change: dict[str, float], message: str) -> None:
    figures_ms = {"inference_start_offset_ms": 1.5, "inference_ms": 3.0} | change
    with pytest.raises(ValueError, match=message):
        inference_interval_ns(0, figures_ms)


@pytest.mark.parametrize("missing", ["inference_start_offset_ms", "inference_ms"])
def test_a_latency_message_without_a_needed_value_is_refused(missing: str) -> None:
    figures_ms = {"inference_start_offset_ms": 1.5, "inference_ms": 3.0}
    del figures_ms[missing]
    with pytest.raises(ValueError, match=f"has no {missing}"):
        inference_interval_ns(0, figures_ms)
