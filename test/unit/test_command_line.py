"""What every subcommand shares: how numbers are read, how errors are told, and how the command ends."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from test.commands import ROOT
from trt_perception.cli import main as command_line
from trt_perception.cli.main import COMMANDS, main
from trt_perception.cli.options import (
    add_model_options,
    backend_request,
    backends,
    fraction,
    hertz,
    known_backend,
    positive_number,
    seconds,
    trust,
    whole_number,
)
from trt_perception.errors import PerceptionError


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (fraction, "0", 0.0),
        (fraction, "0.25", 0.25),
        (fraction, "1", 1.0),
        (whole_number, "0", 0),
        (whole_number, "12", 12),
        (positive_number, "1", 1),
        (seconds, "0.5", 0.5),
        (hertz, "30", 30.0),
    ],
)
def test_numbers(read: Callable[[str], float], text: str, value: float) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "words", "texts"),
    [
        (fraction, "no number from 0 to 1", ("-0.1", "1.1", "nan", "half", "")),
        (whole_number, "no whole number from 0 on", ("-1", "1.5", "²", "")),
        (positive_number, "no whole number from 1 on", ("0", "-1", "1.5", "one")),
        (seconds, "no number of seconds above 0", ("0", "-1", "inf", "nan", "soon")),
        (hertz, "no rate above 0", ("0", "-30", "inf", "fast")),
    ],
)
def test_other_texts_are_refused_with_what_was_expected(
    read: Callable[[str], float], words: str, texts: Sequence[str]
) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError) as refused:
            read(text)
        assert str(refused.value) == f"{text!r} is {words}"


def test_backends_are_checked_by_form_and_by_name() -> None:
    assert backend_request("nosuch:cpu") == "nosuch:cpu"
    assert known_backend("torchscript:cuda:fp16") == "torchscript:cuda:fp16"
    with pytest.raises(argparse.ArgumentTypeError, match="nosuch"):
        known_backend("nosuch")
    for read in (backend_request, known_backend):
        with pytest.raises(argparse.ArgumentTypeError, match="onnxruntime:x:y:z"):
            read("onnxruntime:x:y:z")


def test_model_options_and_their_defaults(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    plain = parser.parse_args([])
    assert backends(plain) == ["onnxruntime"]
    assert not trust(plain).require_checksum and trust(plain).roots == ()
    words = "--backend torchscript:cpu --backend onnxruntime --require-checksum"
    given = parser.parse_args([*words.split(), "--model-root", str(tmp_path), "--model-root", str(tmp_path.parent)])
    assert backends(given) == ["torchscript:cpu", "onnxruntime"]
    assert trust(given).require_checksum
    assert trust(given).roots == (tmp_path.resolve(), tmp_path.parent.resolve())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["budget", "--duration", "soon"], "argument --duration: 'soon' is no number of seconds above 0"),
        (["budget", "--wait", "0"], "argument --wait: '0' is no number of seconds above 0"),
        (
            ["build-engine", "--model=digits", "--calibCount=0"],
            "argument --calibCount: '0' is no whole number from 1 on",
        ),
        (["build-engine", "--model=digits", "--maxMapDrop=2"], "argument --maxMapDrop: '2' is no number from 0 to 1"),
        (["build-engine", "--model=digits", "--workspace=-1"], "argument --workspace: '-1' is no whole number from 1"),
        (["build-engine", "--model=digits", "--device=-1"], "argument --device: '-1' is no whole number from 0 on"),
        (["demo", "--rate", "0"], "argument --rate: '0' is no rate above 0"),
        (["detect", "a.png", "--score-threshold", "2"], "argument --score-threshold: '2' is no number from 0 to 1"),
        (["profile", "--backend", "nosuch"], "argument --backend: "),
        (["nosuch"], "invalid choice: 'nosuch'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_arguments_end_with_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("failure", "told"),
    [(PerceptionError("no such thing"), "trt-perception odd: no such thing\n"), (KeyboardInterrupt(), "")],
)
def test_what_fails_ends_with_1_and_without_a_traceback(
    failure: BaseException, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise failure

    def add_parser(subparsers: Any) -> None:
        subparsers.add_parser("odd").set_defaults(run=fail)

    monkeypatch.setitem(sys.modules, "odd_command", SimpleNamespace(add_parser=add_parser))
    monkeypatch.setattr(command_line, "COMMANDS", {"odd": "odd_command"})
    assert main(["odd"]) == 1
    assert capsys.readouterr().err == told


def test_a_reader_that_goes_away_leaves_no_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # More than a pipe holds, so that the command still writes when nobody reads any more.
    code = (
        "import sys, argparse\n"
        "from trt_perception.cli import doctor, main\n"
        "def talk(path):\n"
        "    while True: print('word ' * 1000)\n"
        "doctor._explain = talk\n"
        "sys.exit(main.main(['doctor', '--log', 'x']))\n"
    )
    with (
        log.open("wb") as errors,
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.read(4) == b"word"
        process.stdout.close()
        assert process.wait(60.0) == 1
    assert log.read_text() == ""
