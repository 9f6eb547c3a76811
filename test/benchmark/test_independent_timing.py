"""The stages' times against a second clock around the same calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trt_perception import postprocess as postprocess_module
from trt_perception.backends import backend_class
from trt_perception.benchmark.bench_subject import BenchSubject
from trt_perception.detector import Detector
from trt_perception.preprocess import Preprocessor
from trt_perception.scenes import heldout_scenes


@pytest.mark.parametrize("name", ["onnxruntime", "torchscript"])
def test_each_stage_agrees_with_an_independent_timing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"torchscript": "torch"}.get(name, name), reason=f"{name} is not installed")
    spent: dict[str, list[float]] = {name: [] for name in ("preprocess", "inference", "postprocess", "total")}

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[stage].append((time.perf_counter() - start) * 1e3)

        return call

    monkeypatch.setattr(Preprocessor, "__call__", timed("preprocess", Preprocessor.__call__))
    backend = backend_class(name)
    monkeypatch.setattr(backend, "infer", timed("inference", backend.infer))
    monkeypatch.setattr("trt_perception.plain_path.postprocess", timed("postprocess", postprocess_module.postprocess))
    monkeypatch.setattr(Detector, "detect", timed("total", Detector.detect))
    pictures = [scene.image_bgr for scene in heldout_scenes(4, 640, 480, 20)]
    subject, opened = BenchSubject.open("digits", f"{name}:cpu", pictures)
    try:
        # A single frame: what a busy machine puts between the two clocks has no bound.
        assert 0 < spent["total"][0] <= opened["first_frame_ms"]
        subject.run(0, 20)
        for samples in spent.values():
            samples.clear()
        reported = subject.run(0, 100)
    finally:
        subject.close()
    for stage, samples in spent.items():
        assert len(samples) == 100
        # The quicker half's: on a busy machine half of the frames may be held up between the two clocks.
        quartiles = [float(np.percentile(times, 25)) for times in ([sample[stage] for sample in reported], samples)]
        assert quartiles[0] == pytest.approx(quartiles[1], rel=0.1), stage
