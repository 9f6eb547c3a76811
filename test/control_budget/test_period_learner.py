"""The learned period on arrivals as they really come: late, lost, in bursts, or without any rhythm."""

from __future__ import annotations

import numpy as np
import pytest

from trt_perception.control_budget import LearnedPeriod, PeriodLearner

S = 1_000_000_000
EPOCH_NS = 1_700_000_000 * S


def arrivals_ns(
    rng: np.random.Generator,
    rate_hz: float,
    seconds: float,
    *,
    jitter_s: float = 0.0,
    lost_share: float = 0.0,
    burst_share: float = 0.0,
    start_ns: int = EPOCH_NS,
) -> list[int]:
    """Arrivals of a loop of `rate_hz`: normal jitter, lost ticks, and bursts of 2-4 ticks that arrive with the last."""
    ticks_s = np.arange(round(seconds * rate_hz)) / rate_hz
    times_s = ticks_s + rng.normal(0.0, jitter_s, len(ticks_s)) if jitter_s else ticks_s
    for first in np.flatnonzero(rng.random(len(times_s)) < burst_share):
        burst = slice(first, first + int(rng.integers(2, 5)))
        times_s[burst] = times_s[burst][-1] + 1e-4 * np.arange(len(times_s[burst]))
    kept_s = np.sort(times_s[rng.random(len(times_s)) >= lost_share])
    return [start_ns + round(time_s * S) for time_s in kept_s.tolist()]


def learn(arrivals: list[int], learner: PeriodLearner | None = None) -> LearnedPeriod | None:
    learner = learner or PeriodLearner()
    for arrival_ns in arrivals:
        learner.add(arrival_ns)
    return learner.estimate(arrivals[-1])


@pytest.mark.parametrize("burst_share", [0.0, 0.05])
def test_50_hz_with_jitter_and_lost_ticks_is_learned_within_2_s(burst_share: float) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        learned = learn(arrivals_ns(rng, 50.0, 2.0, jitter_s=1e-3, lost_share=0.02, burst_share=burst_share))
        assert learned is not None
        assert learned.period.period_ns == pytest.approx(20_000_000, rel=0.01)


@pytest.mark.parametrize("rate_hz", [10.0, 30.0, 100.0, 500.0, 1000.0])
def test_other_rates(rate_hz: float) -> None:
    rng = np.random.default_rng(3)
    learned = learn(arrivals_ns(rng, rate_hz, max(2.0, 20 / rate_hz), jitter_s=0.05 / rate_hz, lost_share=0.02))
    assert learned is not None
    assert learned.period.period_ns == pytest.approx(S / rate_hz, rel=0.01)


@pytest.mark.parametrize(("before_hz", "after_hz"), [(50.0, 100.0), (100.0, 50.0)])
def test_a_new_rate_is_noticed_within_2_s(before_hz: float, after_hz: float) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        learner = PeriodLearner()
        before = arrivals_ns(rng, before_hz, 5.0, jitter_s=1e-3, lost_share=0.02)
        assert learn(before, learner) is not None
        after = arrivals_ns(rng, after_hz, 2.0, jitter_s=1e-3, lost_share=0.02, start_ns=before[-1] + S // 50)
        learned = learn(after, learner)
        assert learned is not None
        assert learned.period.period_ns == pytest.approx(S / after_hz, rel=0.01)


def test_a_quarter_of_the_ticks_lost_does_not_change_the_period() -> None:
    found = [learn(arrivals_ns(np.random.default_rng(s), 50.0, 2.0, jitter_s=1e-3, lost_share=0.25)) for s in range(20)]
    periods = [learned.period.period_ns for learned in found if learned is not None]
    assert len(periods) == 20
    assert periods == pytest.approx([20_000_000] * 20, rel=0.01)


def test_phase_and_jitter() -> None:
    rng = np.random.default_rng(5)
    learned = learn(arrivals_ns(rng, 50.0, 2.0, jitter_s=1e-3))
    assert learned is not None
    off_ns = (learned.period.phase_ns - EPOCH_NS + 10_000_000) % 20_000_000 - 10_000_000
    assert abs(off_ns) < 500_000
    assert 1_800_000 < learned.jitter_p99_ns < 4_500_000
    steady = learn(arrivals_ns(rng, 50.0, 2.0))
    assert steady is not None
    assert steady.jitter_p99_ns < 1000
    assert steady.regularity == pytest.approx(1.0)


def test_nothing_is_known_before_there_is_evidence() -> None:
    learner = PeriodLearner()
    assert learner.estimate(EPOCH_NS) is None
    arrivals = arrivals_ns(np.random.default_rng(0), 50.0, 1.0)
    assert learn(arrivals[:15], learner) is None
    assert learn(arrivals[15:16], learner) is not None


def test_arrivals_without_rhythm_are_not_given_a_period() -> None:
    found = 0
    for seed in range(200):
        gaps_s = np.random.default_rng(seed).exponential(0.02, 100)
        found += learn([EPOCH_NS + round(time_s * S) for time_s in np.cumsum(gaps_s).tolist()]) is not None
    assert found <= 2


def test_arrivals_all_at_once_are_not_given_a_period() -> None:
    assert learn([EPOCH_NS] * 40) is None


def test_a_silent_topic_is_no_longer_known() -> None:
    learner = PeriodLearner()
    arrivals = arrivals_ns(np.random.default_rng(0), 50.0, 2.0)
    learn(arrivals, learner)
    assert learner.estimate(arrivals[-1] + S) is not None
    assert learner.estimate(arrivals[-1] + S + 1) is None


def test_a_clock_set_back_restarts_the_learning() -> None:
    learner = PeriodLearner()
    arrivals = arrivals_ns(np.random.default_rng(0), 50.0, 2.0)
    learn(arrivals, learner)
    assert learn([0], learner) is None
    learned = learn([20_000_000 * number for number in range(1, 40)], learner)
    assert learned is not None
    assert learned.period.period_ns == pytest.approx(20_000_000, rel=1e-6)
