"""Progress is shown on a terminal only, and never comes between the items."""

from __future__ import annotations

import io
import sys

import pytest

from trt_perception.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_terminal_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    assert list(progress([1, 2, 3], 3, "detecting")) == [1, 2, 3]
    assert errors.getvalue() == ""


@pytest.mark.parametrize("count", [3, None])
def test_a_terminal_sees_what_is_going_on(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    terminal, output = Terminal(), io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", output)
    assert list(progress(iter([1, 2, 3]), count, "detecting")) == [1, 2, 3]
    assert "detecting" in terminal.getvalue()
    assert output.getvalue() == ""


def test_items_come_one_by_one() -> None:
    taken: list[int] = []

    def items() -> object:
        for number in range(3):
            taken.append(number)
            yield number

    shown = progress(items(), None, "detecting")  # type: ignore[var-annotated, arg-type]
    next(shown)
    assert taken == [0]
