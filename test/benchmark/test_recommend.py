"""Which backend is recommended, and what is said of it."""

from __future__ import annotations

from test.benchmark.documents import cannot_run, row
from trt_perception.benchmark.plan import BenchPlan, Candidate
from trt_perception.benchmark.recommend import Recommendation, recommend
from trt_perception.benchmark.row import Row, share_of
from trt_perception.control_budget import Verdict


def recommended(*rows: Row, rate_hz: float = 50.0, max_map_drop: float | None = None) -> Recommendation:
    candidates = tuple(Candidate(entry.name) for entry in rows)
    return recommend(rows, BenchPlan("m", candidates, control_rate_hz=rate_hz, max_map_drop=max_map_drop))


def test_the_lowest_p99_wins() -> None:
    found = recommended(row("slow:cpu", 8.0), row("fast:cpu", 1.0), cannot_run("dead"))
    assert found.backend == "fast:cpu"
    assert "take fast:cpu" in found.sentence and "real_time" in found.sentence
    assert f"slow:cpu takes {11.55 / 4.55:.2f} times as long" in found.sentence


def test_a_fast_one_that_lost_accuracy_is_named_and_not_taken() -> None:
    rows = (row("slow:cpu", 8.0), row("int8:cuda", 1.0, map50_95=0.6))
    found = recommended(*rows)
    assert found.backend == "slow:cpu"
    assert "int8:cuda lost 0.100 of mAP50-95 (at most 0.02)" in found.sentence
    assert recommended(*rows, max_map_drop=0.2).backend == "int8:cuda"


def test_without_labels_agreement_decides() -> None:
    rows = [row("slow:cpu", 8.0), row("odd:cuda", 1.0, matched=5)]
    plain = [Row(r.candidate, info=r.info, samples_ms=r.samples_ms, agreement=r.agreement) for r in rows]
    found = recommended(*plain)
    assert found.backend == "slow:cpu"
    assert "odd:cuda agrees with slow:cpu on 50 % of detections only" in found.sentence


def test_over_budget_is_said() -> None:
    found = recommended(row("only:cpu", 8.0), rate_hz=100.0)
    assert found.sentence.startswith("none is fast enough for a control loop of 100 Hz; nearest comes only:cpu")


def test_none() -> None:
    assert recommended(cannot_run("a"), cannot_run("b")).backend is None


def test_the_documents_of_a_robot() -> None:
    """0.371 ms is 1.9 % of a 20 ms period, 6.773 ms is 33.9 % and borderline."""
    for inference_ms, share, verdict in ((0.371, 0.019, Verdict.REAL_TIME), (6.773, 0.339, Verdict.BORDERLINE)):
        samples = {"preprocess": [0.0], "inference": [inference_ms], "postprocess": [0.0], "total": [inference_ms]}
        found = share_of(Row(Candidate("x"), samples_ms=samples), BenchPlan("m", ()))
        assert round(found.inference_mean, 3) == share
        assert found.verdict is verdict


def test_copies_count_as_inference() -> None:
    samples = {"host_to_device": [1.0], "inference": [2.0], "device_to_host": [3.0], "total": [7.0]}
    assert Row(Candidate("x"), samples_ms=samples).busy().p50 == 6.0
