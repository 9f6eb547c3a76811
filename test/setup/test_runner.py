from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.setup import runner
from tools.setup.commands import run_logged
from tools.setup.layout import Checkout, SetupError
from tools.setup.runner import bring_up
from tools.setup.steps import Step


class Recorder:
    """Steps that write down that they ran, and fail on demand."""

    def __init__(self, root: Path) -> None:
        self.checkout = Checkout(root)
        self.ran: list[str] = []
        self.failing = ""
        for name in ("first", "second", "third"):
            (root / f"{name}.txt").write_text(name, encoding="utf-8")

    def bring_up(self) -> int:
        names = ("first", "second", "third")
        return bring_up(self.checkout, tuple(self._step(name) for name in names))

    def _step(self, name: str) -> Step:
        def action(checkout: Checkout) -> None:
            self.ran.append(name)
            if name == self.failing:
                raise SetupError("the disk is full", "Delete something.")

        return Step(name, f"do the {name} thing", (f"{name}.txt",), action)


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(runner, "problems", lambda root: [])
    return Recorder(tmp_path)


def test_steps_run_once(recorder: Recorder) -> None:
    assert recorder.bring_up() == 0
    assert recorder.ran == ["first", "second", "third"]
    assert recorder.bring_up() == 0
    assert recorder.ran == ["first", "second", "third"]


def test_a_changed_input_runs_its_own_step_again(recorder: Recorder) -> None:
    recorder.bring_up()
    (recorder.checkout.root / "second.txt").write_text("new", encoding="utf-8")
    recorder.ran.clear()
    assert recorder.bring_up() == 0
    assert recorder.ran == ["second"]


def test_a_failed_step_is_named_with_reason_and_remedy_and_is_where_the_next_run_goes_on(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.failing = "second"
    assert recorder.bring_up() == 1
    assert recorder.ran == ["first", "second"]
    message = capsys.readouterr().err
    assert "step 2 of 3 (second: do the second thing) failed: the disk is full" in message
    assert "What to do: Delete something." in message
    assert str(recorder.checkout.log) in message

    recorder.failing = ""
    recorder.ran.clear()
    assert recorder.bring_up() == 0
    assert recorder.ran == ["second", "third"]


def test_a_step_that_fails_when_done_again_is_no_longer_done(recorder: Recorder) -> None:
    recorder.bring_up()
    source = recorder.checkout.root / "second.txt"
    source.write_text("new", encoding="utf-8")
    recorder.failing = "second"
    assert recorder.bring_up() == 1
    source.write_text("second", encoding="utf-8")
    recorder.failing = ""
    recorder.ran.clear()
    assert recorder.bring_up() == 0
    assert recorder.ran == ["second"]


def test_nothing_starts_on_a_machine_that_lacks_something(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "problems", lambda root: ["gcc not found: sudo apt install gcc"])
    assert recorder.bring_up() == 1
    assert recorder.ran == []
    assert not recorder.checkout.venv.exists()
    assert "gcc not found: sudo apt install gcc" in capsys.readouterr().err


def test_a_failed_command_shows_the_end_of_its_output(tmp_path: Path) -> None:
    code = "import sys; print(*range(1000), sep='\\n'); print('no space left', file=sys.stderr); sys.exit(3)"
    log = tmp_path / "setup.log"
    with pytest.raises(SetupError, match=r"ended with status 3") as caught:
        run_logged([sys.executable, "-c", code], log, tmp_path, {}, "Make space.")
    assert "no space left" in str(caught.value)
    assert "    100\n" not in str(caught.value), "only the end belongs into the message"
    assert caught.value.remedy == "Make space."
    assert "\n100\n" in log.read_text(encoding="utf-8")


def test_a_command_that_does_not_exist_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no-such-program cannot be started"):
        run_logged(["no-such-program"], tmp_path / "setup.log", tmp_path, {}, "Install it.")
