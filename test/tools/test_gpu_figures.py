"""How the GPU part of the benchmark reads its samples."""

from __future__ import annotations

import pytest

from benchmarks.hot_path.blocks import Samples
from benchmarks.hot_path.gpu_figures import figures_of, settled_after
from benchmarks.hot_path.gpu_setting import TENSORRT, TORCHSCRIPT


def test_frames_at_the_beginning_of_a_block_that_take_longer_are_counted() -> None:
    slow_start = [3.0, 2.0, 2.0, 1.5] + [1.0] * 26
    assert settled_after([slow_start] * 5) == 3.0  # the median of three places: the fourth is one slow frame
    assert settled_after([[1.0] * 30] * 5) == 0.0
    assert settled_after([[1.0] * 9 + [5.0] + [1.0] * 20] * 5) == 0.0


def test_ratios_are_of_medians_and_only_of_what_was_measured() -> None:
    samples: Samples = {
        TENSORRT: {"total": [1.0, 2.0, 9.0], "network": [0.5, 0.5, 0.6]},
        TORCHSCRIPT: {"total": [3.0, 3.0, 3.0], "network": [1.0, 1.0, 1.0]},
    }
    in_a_row = {TENSORRT: [1.0] * 98 + [2.0] * 2}
    figures = figures_of(samples, {name: [rows["total"]] for name, rows in samples.items()}, in_a_row)
    assert figures["gpu_torchscript_vs_tensorrt"] == pytest.approx(1.5)
    assert figures["gpu_torchscript_vs_tensorrt_network_only"] == pytest.approx(2.0)
    assert figures[f"gpu_total_over_network {TENSORRT}"] == pytest.approx(4.0)
    assert figures[f"gpu_p99_over_p50 {TORCHSCRIPT}"] == pytest.approx(1.0)
    assert figures[f"gpu_p99_over_p50_in_a_row {TENSORRT}"] == pytest.approx(2.0)
    assert f"gpu_p99_over_p50_in_a_row {TORCHSCRIPT}" not in figures
    assert not any("onnxruntime" in name or "upload" in name for name in figures)
