"""What the quality declaration says of coverage is what is configured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.coverage_run import LEAST_BRANCHES_PERCENT, LEAST_LINES_PERCENT, NOT_MEASURED, percentages

ROOT = Path(__file__).parents[2]


def test_the_declaration_lists_the_files_that_are_left_out() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    left_out = re.findall(r'^    "\*/(trt_perception/.*\.py)",$', settings, re.MULTILINE)
    declaration = (ROOT / "QUALITY_DECLARATION.md").read_text(encoding="utf-8")
    assert left_out and re.findall(r"^- `(trt_perception/.*\.py)`$", declaration, re.MULTILINE) == left_out
    assert all((ROOT / name).is_file() for name in left_out)
    assert f"lines >= {LEAST_LINES_PERCENT:.0f} % and branches >= {LEAST_BRANCHES_PERCENT:.0f} %" in declaration


def test_nothing_is_left_out_inside_a_file() -> None:
    assert not [
        path for path in (ROOT / "trt_perception").rglob("*.py") if "pragma: no cover" in path.read_text("utf-8")
    ]


def test_the_tests_that_are_not_measured_exist() -> None:
    assert all((ROOT / name).is_file() for name in NOT_MEASURED)


def test_percentages() -> None:
    totals = {"covered_lines": 3, "num_statements": 4, "covered_branches": 1, "num_branches": 2}
    assert percentages(totals) == (75.0, 50.0)


def test_an_installed_copy_counts_as_the_code_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coverage = pytest.importorskip("coverage")
    data = coverage.CoverageData(str(tmp_path / "data.one"))
    data.add_arcs({"/gone/lib/python3.11/site-packages/trt_perception/errors.py": [(-1, 3), (3, -1)]})
    data.write()
    monkeypatch.chdir(ROOT)
    combined = coverage.Coverage(data_file=str(tmp_path / "data"), config_file=str(ROOT / "pyproject.toml"))
    combined.combine([str(tmp_path)])
    assert combined.get_data().measured_files() == {str(ROOT / "trt_perception" / "errors.py")}
