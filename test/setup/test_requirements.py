from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.setup.layout import this_checkout

FOLDER = this_checkout().requirements
LOCKED = ("runtime", "ros", "test", "torch", "architectures")
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;]+)( ; (?P<marker>.+))?")


def _pins(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("level", LOCKED)
def test_every_requirement_is_pinned_exactly(level: str) -> None:
    loose = [line for line in _pins(FOLDER / f"{level}.txt") if not PIN.fullmatch(line)]
    assert loose == []


@pytest.mark.parametrize("level", ["runtime", "ros", "test"])
def test_levels_agree_because_each_is_cut_out_of_the_constraints(level: str) -> None:
    constraints = {line.split(" ; ")[0] for line in _pins(FOLDER / "constraints.txt")}
    assert {line.split(" ; ")[0] for line in _pins(FOLDER / f"{level}.txt")} - constraints == set()


def test_all_of_ros_is_jazzy() -> None:
    pins = dict(line.split("==") for line in _pins(FOLDER / "ros.txt") if line.startswith("ros-"))
    assert [name for name in pins if re.match(r"ros-(humble|iron|kilted|lyrical|rolling)-", name)] == []
    for name, version in pins.items():
        if name.startswith("ros-jazzy-"):
            assert pins[name.replace("ros-jazzy-", "ros-")] == version
    assert pins["ros-rcl"].startswith("9.2.")


def test_numpy_and_onnxruntime_differ_for_the_oldest_python() -> None:
    lines = _pins(FOLDER / "runtime.txt")
    assert "numpy==2.2.6 ; python_full_version < '3.11'" in lines
    assert "onnxruntime==1.23.2 ; python_full_version < '3.11'" in lines


def test_opencv_stays_below_5_for_cv_bridge() -> None:
    (pin,) = (line for line in _pins(FOLDER / "runtime.txt") if line.startswith("opencv"))
    assert pin.startswith("opencv-python-headless==4.")


def test_no_file_names_an_index() -> None:
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "://" not in text, file
        assert "--index" not in text, file
