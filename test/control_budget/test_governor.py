"""The governor, on simulated time."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_perception.control_budget import InferenceGovernor

MS = 1_000_000
S = 1000 * MS


def run_frames(
    governor: InferenceGovernor, length_ms: float, frame_ms: float, seconds: float, jitter_ms: float = 0.0
) -> list[tuple[int, int]]:
    """Offers a frame every `frame_ms`; returns the inferences `(start, end)` that ran."""
    rng = random.Random(7)
    runs: list[tuple[int, int]] = []
    now_ns = 0
    while now_ns < seconds * S:
        now_ns += round((frame_ms + rng.uniform(-jitter_ms, jitter_ms)) * MS)
        if runs and now_ns < runs[-1][1]:
            continue
        if governor.allows(now_ns):
            runs.append((now_ns, now_ns + round(length_ms * MS)))
            governor.finished(*runs[-1])
    return runs


def busy_share(runs: list[tuple[int, int]], from_ns: int, to_ns: int) -> float:
    return sum(max(0, min(end, to_ns) - max(start, from_ns)) for start, end in runs) / (to_ns - from_ns)


@pytest.mark.parametrize("jitter_ms", [0.0, 5.0])
def test_a_backend_that_would_use_0_6_is_held_at_0_2(jitter_ms: float) -> None:
    governor = InferenceGovernor(0.2)
    runs = run_frames(governor, 30.0, 50.0, 60.0, jitter_ms)
    assert busy_share(runs, 0, 60 * S) == pytest.approx(0.2, abs=0.01)
    assert len(runs) + governor.skipped_count == pytest.approx(1200, abs=10)


def test_detections_keep_flowing_evenly() -> None:
    runs = run_frames(InferenceGovernor(0.2), 30.0, 50.0, 60.0, 5.0)
    gaps_ms = [(later[0] - earlier[0]) / MS for earlier, later in itertools.pairwise(runs)]
    assert runs[0][0] < 100 * MS
    assert max(gaps_ms) < 300


@given(st.floats(0.05, 0.95), st.floats(0.5, 400.0), st.floats(1.0, 100.0), st.floats(0.0, 0.5), st.integers(5, 20))
@settings(max_examples=60, deadline=None)
def test_no_window_exceeds_the_share(share: float, length_ms: float, frame_ms: float, jitter: float, at_s: int) -> None:
    governor = InferenceGovernor(share)
    runs = run_frames(governor, length_ms, frame_ms, 20.0, jitter * frame_ms)
    assert busy_share(runs, (at_s - 5) * S, (at_s + 5) * S) <= share + 1e-9 or len(runs) < 3


@given(st.floats(0.05, 0.95), st.floats(0.5, 200.0), st.floats(1.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_it_takes_what_it_may(share: float, length_ms: float, frame_ms: float) -> None:
    runs = run_frames(InferenceGovernor(share), length_ms, frame_ms, 30.0, 0.2 * frame_ms)
    # Alone, a frame can start only after the one before; the share cannot exceed what that leaves.
    ungoverned = busy_share(run_frames(InferenceGovernor(0.0), length_ms, frame_ms, 30.0, 0.2 * frame_ms), 0, 30 * S)
    assert busy_share(runs, 0, 30 * S) >= min(share, ungoverned) - 0.04


def test_what_goes_ahead_of_its_time_is_missing_afterwards() -> None:
    governor = InferenceGovernor(0.2)
    governor.finished(0, 30 * MS)  # the next one's time is 150 ms
    assert not governor.allows(40 * MS)
    assert governor.allows(40 * MS, ahead=1)
    governor.finished(40 * MS, 70 * MS)
    assert not governor.allows(149 * MS, ahead=1)
    assert governor.allows(150 * MS, ahead=1)
    assert not governor.allows(299 * MS)
    assert governor.allows(300 * MS)
    assert governor.skipped_count == 3


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_window_exceeds_the_share_by_what_went_ahead_and_no_more(ahead: int) -> None:
    governor = InferenceGovernor(0.2)
    runs = []
    for frame in range(400):
        if governor.allows(frame * 50 * MS, ahead=ahead):
            runs.append((frame * 50 * MS, frame * 50 * MS + 30 * MS))
            governor.finished(*runs[-1])
    shares = [busy_share(runs, end - 10 * S, end) for _, end in runs]
    assert 0.2 + (ahead - 1) * 0.003 < max(shares) <= 0.2 + ahead * 0.003 + 1e-9


def test_below_the_share_nothing_is_skipped() -> None:
    governor = InferenceGovernor(0.2)
    assert len(run_frames(governor, 3.0, 50.0, 20.0)) == 400
    assert governor.skipped_count == 0
    assert governor.share(20 * S) == pytest.approx(0.06, abs=0.001)


def test_off_runs_everything() -> None:
    governor = InferenceGovernor(0.0)
    assert len(run_frames(governor, 45.0, 50.0, 20.0)) == 400
    assert governor.skipped_count == 0


def test_an_inference_longer_than_its_window_allows_still_runs() -> None:
    runs = run_frames(InferenceGovernor(0.2, window_ns=S), 900.0, 50.0, 60.0)
    assert busy_share(runs, 0, 60 * S) == pytest.approx(0.2, abs=0.03)


def test_the_share_may_change_while_running() -> None:
    governor = InferenceGovernor(0.1)
    run_frames(governor, 30.0, 50.0, 5.0)
    governor.max_share = 0.0
    assert all(governor.allows(5 * S + number) for number in range(100))
    governor.max_share = 1e-9
    governor.finished(6 * S, 6 * S + MS)
    assert not governor.allows(600 * S)


def test_wrong_settings_are_refused_with_the_reason() -> None:
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="max share is"):
            InferenceGovernor(share)
    with pytest.raises(ValueError, match="governor window is 0 ns"):
        InferenceGovernor(0.2, window_ns=0)
    with pytest.raises(ValueError, match="ends 1 ns before it starts"):
        InferenceGovernor(0.2).finished(1, 0)
