"""Stages are ranges on Nsight's timeline where nvtx is installed, and cost nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from trt_perception import stage_ranges
from trt_perception.detector import Detector


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    seen: list[str] = []

    @contextmanager
    def annotate(name: str, domain: str) -> Iterator[None]:
        seen.append(f"{domain}: {name}")
        yield
        seen.append("end")

    monkeypatch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=annotate))
    stage_ranges._nvtx.cache_clear()
    yield seen
    stage_ranges._nvtx.cache_clear()


def test_every_stage_of_a_frame_is_a_range(ranges: list[str]) -> None:
    with Detector.open("digits", "onnxruntime:cpu") as detector:
        ranges.clear()
        detector.detect(np.zeros((48, 64, 3), np.uint8))
    stages = [entry for entry in ranges if entry != "end"]
    assert stages == [f"trt_perception: {name}" for name in ("preprocess", "inference", "postprocess")]
    assert ranges.count("end") == 3


def test_without_nvtx_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    stage_ranges._nvtx.cache_clear()
    with stage_ranges.stage("inference"), stage_ranges.stage("inside it"):
        pass
    stage_ranges._nvtx.cache_clear()
