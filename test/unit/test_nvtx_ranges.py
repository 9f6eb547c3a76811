"""The stages' names for Nsight Systems; a module that notes them stands in for nvtx, which cannot be read back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_perception import nvtx_ranges
from trt_perception.detector import Detector


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    nvtx_ranges._annotate.cache_clear()
    yield
    nvtx_ranges._annotate.cache_clear()


def detect_once() -> None:
    with Detector.open("digits", "onnxruntime:cpu") as detector:
        detector.detect(np.zeros((240, 320, 3), np.uint8))


def test_every_stage_has_a_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    @contextmanager
    def annotate(name: str, domain: str) -> Iterator[None]:
        seen.append(f"{domain}: {name}")
        yield

    module: Any = ModuleType("nvtx")
    module.annotate = annotate
    monkeypatch.setitem(sys.modules, "nvtx", module)
    detect_once()
    assert seen == [f"trt_perception: {stage}" for stage in ("preprocess", "inference", "postprocess")]


def test_without_nvtx_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    detect_once()


def test_the_real_one_takes_the_names() -> None:
    pytest.importorskip("nvtx", reason="nvtx is not installed")
    detect_once()
