"""Other figures beside ours: speed-ups, what is unfair, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from test.benchmark.documents import document, row
from test.benchmark.test_bench_command import validate
from trt_perception.benchmark.against import compare_with, read_other, speed_up_lines
from trt_perception.benchmark.text_report import text_report
from trt_perception.errors import PerceptionError


@pytest.fixture
def ours() -> dict[str, Any]:
    return document(row("onnxruntime:cpu", 4.0))


def least(ours: dict[str, Any]) -> dict[str, Any]:
    """What a file from elsewhere has to hold."""
    artifact = {"sha256": ours["model"]["artifacts"]["onnx"]["sha256"]}
    return {
        "model": {"artifacts": {"onnx": artifact}, "input": {"width": 320, "height": 320}},
        "rows": [{"backend": "TVM", "samples_ms": {"inference": [40.0, 44.5, 50.0]}}],
    }


def test_an_earlier_run_under_the_same_conditions(ours: dict[str, Any]) -> None:
    earlier = document(row("onnxruntime:cpu", 11.55))
    found = compare_with(ours, earlier, "earlier.json")
    assert found["unfair"] == []
    (entry,) = found["speed_ups"]
    assert entry["stage"] == "total"
    assert entry["speed_up"] == pytest.approx((11.55 + 0.45 + 3.1) / (4.0 + 0.45 + 3.1))
    first, last = speed_up_lines(found)
    assert first.startswith("onnxruntime:cpu is 2.00 times as fast as onnxruntime:cpu (earlier.json)")
    assert last == "under the same conditions"
    ours["against"] = [found]
    validate(ours)
    assert first in text_report(ours)


def test_another_programs_figures_and_what_it_does_not_tell(ours: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tvm.json"
    path.write_text(json.dumps(least(ours)))
    found = compare_with(ours, read_other(path), path.name)
    (entry,) = found["speed_ups"]
    assert (entry["stage"], entry["other_p50_ms"]) == ("inference", 44.5)
    assert entry["speed_up"] == pytest.approx(10.0)
    assert entry["unfair"] == "its precision is not known"
    assert "CPU: it does not say" in found["unfair"]
    assert "GPUs: ['a GPU'] here, none there" in found["unfair"]


def test_differences_are_named(ours: dict[str, Any]) -> None:
    other = copy.deepcopy(document(row("onnxruntime:cuda:fp16", 1.0)))
    other["environment"]["cpu"] = "another"
    other["settings"]["warm_up_frames"] = 0
    found = compare_with(ours, other, "other.json")
    assert found["unfair"] == ["CPU: a CPU & <more> here, another there", "warm-up frames: 20 here, 0 there"]
    assert found["speed_ups"][0]["unfair"] == "fp32 here, fp16 there"
    assert "times slower than" in speed_up_lines(found)[0]


def test_a_run_that_comes_from_a_file_is_under_the_same_conditions(ours: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(ours))
    assert json.loads(path.read_text()) == ours
    assert compare_with(ours, read_other(path), path.name)["unfair"] == []


def test_of_tables_the_entries_that_differ_are_named(ours: dict[str, Any]) -> None:
    other = copy.deepcopy(ours)
    other["model"]["thresholds"]["iou"] = 0.7
    ours["environment"]["variables"] = {"OMP_NUM_THREADS": "2"}
    other["environment"]["variables"] = {"OMP_WAIT_POLICY": "PASSIVE"}
    assert compare_with(ours, other, "other.json")["unfair"] == [
        "environment variables, OMP_NUM_THREADS: 2 here, None there",
        "environment variables, OMP_WAIT_POLICY: None here, PASSIVE there",
        "thresholds, iou: 0.45 here, 0.7 there",
    ]


def test_another_model_or_input_is_refused(ours: dict[str, Any]) -> None:
    other = least(ours)
    other["model"]["input"]["width"] = 640
    with pytest.raises(PerceptionError, match="ran on an input of 640x320, this on 320x320"):
        compare_with(ours, other, "other.json")
    other["model"]["artifacts"]["onnx"]["sha256"] = "0" * 64
    with pytest.raises(PerceptionError, match="about another model"):
        compare_with(ours, other, "other.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 1}', '{"model": {"artifacts": {}, "input": {}}}'])
def test_what_is_no_document(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(PerceptionError, match="is no bench document"):
        read_other(path)
    with pytest.raises(PerceptionError, match="cannot be read"):
        read_other(tmp_path / "nosuch.json")
