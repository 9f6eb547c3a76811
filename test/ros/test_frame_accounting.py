"""The books of benchmarks/frame_accounting.py over a short run: they balance, whatever the machine's speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from benchmarks.frame_accounting import Books, Run, verdicts
from test.ros.graph import CHECKOUT
from test.setup.processes import private_domain
from trt_perception.statistics import summarize


def run_for_ten_seconds() -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    words = [sys.executable, "-m", "benchmarks.frame_accounting", "--seconds", "10"]
    done = subprocess.run(
        words, cwd=CHECKOUT, env={**os.environ, **private_domain()}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout, done.stderr
    return done, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_frame_that_was_sent_is_processed_dropped_or_lost() -> None:
    # A frame that gets lost before the first or after the last one that arrives leaves no gap between numbers, so that
    # no subscriber can count it: one such frame is asked about again, anything else is not.
    done, document = run_for_ten_seconds()
    if document["frames"]["unexplained"] == 1:
        done, document = run_for_ten_seconds()
    assert done.returncode == 0, done.stdout + done.stderr
    frames = document["frames"]
    assert frames["sent"] == 300
    assert frames["sent"] == frames["processed"] + frames["dropped"] + frames["lost"]
    assert frames["received"] == frames["processed"] + frames["dropped"]
    assert frames["processed"] > 0
    assert set(document["stages"]) >= {"queue_wait_ms", "inference_ms", "total_ms"}
    assert "300 frames of 640x480 at 30 Hz" in done.stdout


def books(**changed: int) -> Books:
    counts = dict.fromkeys(
        ("late", "received", "processed", "superseded", "stale", "skipped", "paused", "malformed", "failed", "lost"), 0
    )
    return Books(**{"sent": 100, **counts, "received": 100, "processed": 100, **changed})


def holding(of: Books, queue_wait_ms: float = 1.0) -> list[bool]:
    return list(verdicts(Run(rate_hz=30.0), of, {"queue_wait_ms": summarize([queue_wait_ms])}).values())


def test_the_verdicts() -> None:
    assert holding(books()) == [True, True, True]
    assert holding(books(processed=90, superseded=4, stale=3, skipped=2, failed=1)) == [True, True, True]
    assert holding(books(processed=99)) == [False, True, True]
    assert holding(books(processed=101)) == [False, True, True]
    assert holding(books(received=99, processed=99, lost=1)) == [True, False, True]
    assert holding(books(), queue_wait_ms=33.4) == [True, True, False]


def test_a_detector_that_cannot_start_is_told() -> None:
    words = [sys.executable, "-m", "benchmarks.frame_accounting", "--seconds", "1", "--backend", "typewriter"]
    environment = {**os.environ, **private_domain()}
    done = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "typewriter" in done.stderr
