"""`trt-perception bench` as a person runs it: real processes, real libraries, the JSON against its schema."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from test.commands import ROOT, trt_perception

SCHEMA = json.loads((ROOT / "docs" / "bench.schema.json").read_text(encoding="utf-8"))
FAKE_BACKEND = str(ROOT / "test" / "fake_backend")
OTHER_PYTHON = "TRT_PERCEPTION_TEST_OTHER_PYTHON"
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def validate(document: Any) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


def bench(*arguments: str | Path, code: int = 0, **options: str) -> Any:
    done = trt_perception(["bench", "--json", *arguments], **options)
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    validate(document)
    return document


def rows(document: Any) -> dict[str, Any]:
    return {row["backend"]: row for row in document["rows"]}


@pytest.fixture(scope="module")
def both() -> Any:
    """ONNX Runtime, torch, and a backend that does not exist."""
    start_s = time.monotonic()
    document = bench("--backend", "onnxruntime:cpu", "--backend", "torchscript:cpu", "--backend", "tensorrt")
    assert time.monotonic() - start_s < 60
    return document


@needs_torch
def test_every_figure_follows_from_the_raw_samples(both: Any) -> None:
    for row in both["rows"][:2]:
        assert row["ran"]
        assert set(row["samples_ms"]) == {"preprocess", "inference", "postprocess", "total"}
        for stage, samples in row["samples_ms"].items():
            figures = row["stages_ms"][stage]
            assert len(samples) == figures["count"] == 100  # nothing is trimmed
            assert figures["max"] == max(samples)
            assert figures["min"] == min(samples)
            assert figures["p99"] == pytest.approx(np.percentile(samples, 99))
            assert figures["mean"] == pytest.approx(np.mean(samples))
        parts = [
            sum(values)
            for values in zip(*(row["samples_ms"][s] for s in ("preprocess", "inference", "postprocess")), strict=True)
        ]
        assert all(part <= total for part, total in zip(parts, row["samples_ms"]["total"], strict=True))
        assert row["frames_per_second"] == pytest.approx(1000 / row["stages_ms"]["total"]["mean"])
        assert row["control_period"]["inference_p99_share"] == pytest.approx(row["stages_ms"]["inference"]["p99"] / 20)
        assert row["peak_host_memory_mib"] > 50
        assert row["load_ms"] > 0


@needs_torch
def test_ratios_and_the_recommendation(both: Any) -> None:
    first, second = both["rows"][:2]
    turns = [np.median(np.reshape(row["samples_ms"]["total"], (10, 10)), axis=1) for row in (first, second)]
    assert first["ratio_to_reference"] == 1.0
    least, most = np.sort(turns[1] / turns[0])[[4, 5]]
    assert least * 0.999 <= second["ratio_to_reference"] <= most * 1.001
    assert min(first["ratio_to_fastest"], second["ratio_to_fastest"]) == 1.0
    best = min((first, second), key=lambda row: row["stages_ms"]["total"]["p99"])
    assert both["recommendation"]["backend"] == best["backend"]
    assert f"{best['backend']}: p99 of a frame" in both["recommendation"]["sentence"]


@needs_torch
def test_accuracy_stands_beside_speed(both: Any) -> None:
    found = rows(both)["torchscript:cpu"]["agreement"]
    assert 0 < found["max_abs_difference"] < 0.01  # boxes in pixels of the network's input
    assert found["share"] == 1.0
    assert found["matched_count"] == found["reference_count"] > 50
    for row in both["rows"][:2]:
        assert row["map50_95"] > 0.7
        assert abs(row["map_drop"]) < 0.001


def test_a_backend_that_cannot_run_keeps_its_row(both: Any) -> None:
    row = both["rows"][2]
    assert row["backend"] == "tensorrt"
    assert not row["ran"]
    assert row["cannot_run"]["reason"]
    assert "stages_ms" not in row


def test_a_fallback_to_another_device_counts_as_cannot_run() -> None:
    both = ("--backend", "onnxruntime:cpu", "--backend", "onnxruntime:cuda", "--iterations", "3", "--warmup", "1")
    # Where there is a GPU it is hidden.
    document = bench(*both, CUDA_VISIBLE_DEVICES="")
    row = rows(document)["onnxruntime:cuda"]
    assert not row["ran"]
    assert "instead of cuda" in row["cannot_run"]["reason"]
    bench(*both, "--strict", code=1, CUDA_VISIBLE_DEVICES="")


def test_nothing_that_runs_is_exit_code_1() -> None:
    document = bench("--backend", "nosuch", code=1)
    assert document["recommendation"]["backend"] is None


def test_batches() -> None:
    document = bench("--backend", "onnxruntime:cpu", "--iterations", "2", "--batch", "1,3")
    small, large = document["rows"][0]["batches"]
    assert (small["size"], large["size"]) == (1, 3)
    assert large["inference_ms"]["p50"] > small["inference_ms"]["p50"]
    assert large["pictures_per_second"] == pytest.approx(3000 / large["inference_ms"]["mean"])


@needs_torch
def test_another_interpreter(tmp_path: Path) -> None:
    """A script stands in for one: it leaves a trace and then is the usual one."""
    trace, interpreter = tmp_path / "trace", tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\necho "$0" >> {trace}\nexec {sys.executable} "$@"\n')
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    document = bench(
        *("--backend", "onnxruntime:cpu", "--backend", "torchscript:cpu", "--iterations", "2", "--warmup", "0"),
        *("--python", f"torchscript={interpreter}"),
    )
    assert all(row["ran"] for row in document["rows"])
    assert trace.read_text().splitlines() == [str(interpreter)]
    missing = bench("--backend", "onnxruntime:cpu", "--iterations", "1", "--python", "onnxruntime=/no/python", code=1)
    assert "/no/python does not start" in missing["rows"][0]["cannot_run"]["reason"]


@pytest.mark.skipif(OTHER_PYTHON not in os.environ, reason=f"{OTHER_PYTHON} names no other interpreter")
def test_an_interpreter_of_another_version() -> None:
    """Needs one with NumPy, OpenCV, PyYAML and ONNX Runtime, and of another version than this one."""
    document = bench(
        *("--backend", "onnxruntime:cpu", "--iterations", "5", "--warmup", "1"),
        *("--python", f"onnxruntime={os.environ[OTHER_PYTHON]}"),
    )
    (row,) = document["rows"]
    assert row["ran"]
    assert row["info"]["interpreter"]["python"] != document["environment"]["python"]
    assert row["map50_95"] > 0.7


# --- with a backend of known behaviour -------------------------------------------------------------------------


def fake(code: str, tmp_path: Path, *arguments: str, expected: int = 0) -> Any:
    """Runs the fake backend beside ONNX Runtime, with `code` put into the process of each."""
    (tmp_path / "sitecustomize.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), FAKE_BACKEND])
    return bench(
        *("--backend", "onnxruntime:cpu", "--backend", "fake", "--iterations", "4", "--warmup", "1", *arguments),
        code=expected,
        PYTHONPATH=os.pathsep.join([str(ROOT), path]),
    )


def test_a_backend_whose_process_dies_while_it_is_measured_keeps_its_row(tmp_path: Path) -> None:
    document = fake(
        """
import sys
class Killer:
    calls = 0
def patch():
    import fake_backend_plugin as plugin, os
    inner = plugin.FakeBackend._infer
    def infer(self, batch):
        Killer.calls += 1
        if Killer.calls > 52:
            print("something is very wrong", file=sys.stderr, flush=True)
            os.abort()
        return inner(self, batch)
    plugin.FakeBackend._infer = infer
import importlib.util
if importlib.util.find_spec("fake_backend_plugin"):
    try:
        patch()
    except ImportError:
        pass
""",
        tmp_path,
    )
    found = rows(document)
    assert found["onnxruntime:cpu"]["ran"]
    reason = found["fake"]["cannot_run"]["reason"]
    assert reason.startswith("its process was killed by SIGABRT at `run`")
    assert "something is very wrong" in reason


def test_a_fast_backend_that_finds_other_things_is_not_recommended(tmp_path: Path) -> None:
    document = fake("", tmp_path)
    found = rows(document)["fake"]
    assert found["ratio_to_fastest"] == 1.0  # it computes nothing
    assert found["agreement"]["incomparable"].startswith("outputs of shape [(1, 14, 1)]")
    assert found["map_drop"] > 0.5
    assert document["recommendation"]["backend"] == "onnxruntime:cpu"
    assert "fake lost 0." in document["recommendation"]["sentence"]
    assert fake("", tmp_path, "--max-map-drop", "0.01", expected=1)["rows"][1]["ran"]


# --- arguments -------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[list[str], int, str]] = {
    "twice the same": (["--backend", "onnxruntime", "--backend", "onnxruntime"], 1, "stands there twice"),
    "python of a stranger": (
        ["--backend", "onnxruntime", "--python", "tensorrt=/x"],
        1,
        "tensorrt, which no --backend",
    ),
    "reference of a stranger": (["--backend", "onnxruntime", "--reference", "fake"], 1, "is none of the backends"),
    "map without labels": (["--images", "scene", "--max-map-drop", "0.1"], 1, "give --labels"),
    "labels without images": (["--labels", "x.json"], 1, "give --images too"),
    "unknown report": (["--save", "x.pdf"], 1, "ends in .json"),
    "no iterations": (["--iterations", "0"], 2, "'0' is no whole number from 1 on"),
    "no rate": (["--control-rate", "-1"], 2, "'-1' is no rate above 0"),
    "python of no form": (["--python", "/usr/bin/python3"], 2, "NAME=PATH"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_wrong_arguments(case: str) -> None:
    arguments, code, words = FAILURES[case]
    done = trt_perception(["bench", *arguments])
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_for_people_and_as_files(tmp_path: Path) -> None:
    arguments = [
        "bench",
        "--backend",
        "onnxruntime:cpu",
        "--backend",
        "nosuch",
        "--iterations",
        "5",
        "--control-rate",
        "1",
    ]
    done = trt_perception([*arguments, "--save", tmp_path / "b.json", "--save", tmp_path / "b.txt"])
    assert done.returncode == 0, done.stderr
    assert "recommended: for a control loop of 1 Hz take onnxruntime:cpu" in done.stdout
    assert "nosuch cannot run: there is no backend 'nosuch'" in done.stdout
    document = json.loads((tmp_path / "b.json").read_text())
    validate(document)
    text = (tmp_path / "b.txt").read_text()
    assert f"{document['rows'][0]['stages_ms']['inference']['p99']:.3f}" in text
    assert text.splitlines()[-1].startswith("recommended: ")
