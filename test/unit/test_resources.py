"""The package finds what comes with it in a checkout, in a colcon prefix and in a Python environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trt_perception import resources
from trt_perception.errors import PerceptionError

CHECKOUT = Path(__file__).parents[2]


def installed_in(prefix: Path) -> Path:
    share = prefix / "share" / "trt_perception"
    (share / "config" / "models").mkdir(parents=True)
    return share


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package lies in an environment of its own, without a config folder next to it."""
    package = tmp_path / "prefix" / "lib" / "python3.12" / "site-packages" / "trt_perception"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", package)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    return tmp_path


def test_in_a_checkout() -> None:
    assert resources.share_directory() == CHECKOUT
    assert (resources.model_directory() / "digits.yaml").is_file()


def test_in_the_prefix_that_the_package_is_installed_in(elsewhere: Path) -> None:
    share = installed_in(elsewhere / "prefix")
    assert resources.share_directory() == share


def test_in_a_prefix_of_colcon(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{elsewhere / 'first'}:{elsewhere / 'second'}")
    share = installed_in(elsewhere / "second")
    assert resources.share_directory() == share


def test_in_the_python_environment(elsewhere: Path) -> None:
    share = installed_in(elsewhere / "python")
    assert resources.share_directory() == share


def test_nowhere(elsewhere: Path) -> None:
    with pytest.raises(PerceptionError, match=r"was not found \(looked in .*share/trt_perception.*\); install"):
        resources.share_directory()
