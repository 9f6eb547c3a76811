"""What people look at: the text in the terminal and the picture."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_perception.control_budget import BudgetThresholds, ControlPeriod, UnitedBudget, named_report, named_sentence
from trt_perception.control_budget.picture import PictureError, delay_note, write_budget_picture
from trt_perception.control_budget.terminal import BudgetView, share_chart, view_lines

MS = 1_000_000
S = 1000 * MS
LIMITS = BudgetThresholds()


def view_of(topics: list[str], inference_ms: float = 6.773) -> BudgetView:
    budget = UnitedBudget(topics, ControlPeriod(20 * MS))
    for frame in range(300):
        for topic in topics:
            start_ns = frame * 33 * MS
            budget.add(topic, start_ns, start_ns + round(inference_ms * MS), start_ns + 30 * MS)
    report = budget.report(10 * S)
    shares = [share for _, share in budget.shares(10 * S)]
    return BudgetView(named_report(report, None), report.total.sentence, shares)


def test_the_view_shows_verdict_sentence_chart_and_figures() -> None:
    lines = view_lines(view_of(["a"]), LIMITS, 80)
    text = "\n".join(lines)
    assert lines[0] == "BORDERLINE"
    assert lines[1] == "inference uses 33.9 % of the 20.0 ms control period (p99 34 %): borderline"
    assert max(len(line) for line in lines) <= 80
    assert "busy share of the last 73 control periods" in text
    assert "headroom at p99           13.23 ms" in text
    assert "\x1b" not in text and "a:" not in text


def test_several_detectors_have_a_line_each() -> None:
    lines = view_lines(view_of(["/front/latency", "/rear/latency"]), LIMITS, 80)
    assert lines[-2:] == [
        "  /front/latency: p99 33.9 %, 6.77 ms, borderline",
        "  /rear/latency: p99 33.9 %, 6.77 ms, borderline",
    ]


def test_a_silent_detector_among_several_says_so() -> None:
    budget = UnitedBudget(["a", "b"], ControlPeriod(20 * MS))
    budget.add("a", 0, MS, MS)
    report = budget.report(S)
    lines = view_lines(BudgetView(named_report(report, None), report.total.sentence, []), LIMITS)
    assert lines[-1] == "  b: no inference, unknown"


def test_the_first_picture_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setattr(matplotlib, "get_cachedir", lambda: str(tmp_path))
    assert "lists this machine's fonts first" in (delay_note() or "")
    code = f"import matplotlib.font_manager, sys; sys.exit(matplotlib.get_cachedir() != {str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "MPLCONFIGDIR": str(tmp_path)}, check=True)
    assert delay_note() is None


def test_without_inference_the_view_has_no_figures_to_show() -> None:
    report = UnitedBudget(["a"], ControlPeriod(20 * MS)).report(0)
    named = named_report(report, None)
    lines = view_lines(BudgetView(named, named_sentence(named), []), LIMITS)
    assert lines[:2] == ["UNKNOWN", "no inference within the last 10 s"]
    assert "  with inference               -       -       -       -       -       -" in lines


def test_the_chart_has_a_bar_for_each_of_the_newest_periods() -> None:
    chart = share_chart([0.9, 0.0, 0.001, 0.5, 1.0], LIMITS, 11)
    assert chart == [
        " 100 %│   █",
        "      │   █",
        "      │   █",
        "  50 %│  ██",
        "      │  ██",
        "      │ ▁██",
        "      └────",
        "busy share of the last 4 control periods, newest right",
    ]


def test_colors_follow_the_thresholds() -> None:
    lowest_row = share_chart([0.1, 0.5, 0.9], LIMITS, 40, color=True)[5]
    assert lowest_row == "      │\x1b[32m▅\x1b[0m\x1b[33m█\x1b[0m\x1b[31m█\x1b[0m"


@pytest.mark.parametrize("topics", [["a"], ["a", "b"]])
def test_the_sentence_can_be_told_from_the_figures_that_go_out(topics: list[str]) -> None:
    view = view_of(topics)
    assert named_sentence(view.named) == view.sentence


def test_the_picture_shows_the_levels_in_their_colors(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    shares = [(number * 20 * MS, (0.1, 0.5, 0.95)[number // 40]) for number in range(120)]
    path = tmp_path / "new" / "budget.png"
    write_budget_picture(path, shares, LIMITS, "the sentence")
    pixels = np.asarray(image.imread(path))[..., :3]
    assert pixels.shape == (660, 1100, 3)
    for color in ("3b7d4f", "d99a00", "c0392b"):
        wanted = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        found = np.abs(pixels - wanted).max(axis=2) < 0.02
        assert found.sum() > 5000


def test_too_little_for_a_picture_is_said(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="1 control periods were seen; expected at least 2"):
        write_budget_picture(tmp_path / "budget.png", [(0, 0.5)], LIMITS, "")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    with pytest.raises(PictureError, match="cannot write"):
        write_budget_picture(tmp_path / "file" / "budget.png", [(0, 0.5), (MS, 0.5)], LIMITS, "")


def test_without_matplotlib_the_picture_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(PictureError, match="pip install matplotlib"):
        write_budget_picture(tmp_path / "budget.png", [(0, 0.5), (MS, 0.5)], LIMITS, "")
