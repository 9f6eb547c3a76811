from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from pathlib import Path

import pytest

from tools.setup.preflight import problems

Version = namedtuple("Version", "major minor micro releaselevel serial")


def test_this_machine_lacks_nothing(tmp_path: Path) -> None:
    assert problems(tmp_path) == []


def test_missing_compilers_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (sentence,) = problems(tmp_path)
    assert "gcc and g++ not found" in sentence
    assert "apt install gcc g++" in sentence


def test_an_old_python_is_refused_and_another_one_on_the_machine_is_offered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "version_info", Version(3, 8, 10, "final", 0))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    sentence = problems(tmp_path)[0]
    assert "need CPython 3.10 to 3.14" in sentence
    assert "PYTHON=python3.14 make setup" in sentence


def test_missing_headers_and_venv_name_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    headers, venv = problems(tmp_path)
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert f"{tmp_path / 'Python.h'} is missing" in headers
    assert f"apt install {own}-dev" in headers
    assert "has no venv and no ensurepip" in venv
    assert f"apt install {own}-venv" in venv


@pytest.mark.parametrize(("text", "accepted"), [("glibc 2.27", False), ("glibc 2.28", True), (None, False)])
def test_an_old_or_another_c_library_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, accepted: bool
) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: text)
    assert [("glibc 2.28 or newer" in sentence) for sentence in problems(tmp_path)] == ([] if accepted else [True])


def test_another_processor_is_sent_to_a_distribution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (sentence,) = problems(tmp_path)
    assert "aarch64" in sentence
    assert "ROS 2 distribution" in sentence


def test_a_colon_in_the_path_is_refused() -> None:
    (sentence,) = problems(Path("/home/me/a:b"))
    assert "/home/me/a:b" in sentence


@pytest.mark.parametrize("target", ["setup", "demo", "test"])
def test_an_interpreter_that_is_not_there_is_a_sentence(target: str) -> None:
    root = Path(__file__).parents[2]
    command = ["make", "-C", str(root), target, "PYTHON=nosuch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("PYTHON=nosuch is not there; name one that is, for example PYTHON=python3, or"), (
        done.stderr
    )
