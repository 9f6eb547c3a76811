from __future__ import annotations

from pathlib import Path

import pytest

from tools.setup.ament import register
from tools.setup.layout import EXECUTABLES, Checkout, SetupError


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name in ("package.xml", "launch/a.launch.py", "config/models/m.yaml", "launch/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in EXECUTABLES:
        (tmp_path / ".venv" / "bin" / name).touch()
    return Checkout(tmp_path)


def test_shared_files_are_links_in_real_folders(checkout: Checkout) -> None:
    register(checkout)
    share = checkout.venv / "share" / "trt_perception"
    files = {file.relative_to(share).as_posix() for file in share.rglob("*") if file.is_file()}
    assert files == {"package.xml", "launch/a.launch.py", "config/models/m.yaml"}
    assert not (share / "launch").is_symlink(), "ros2 launch does not look into linked folders"
    (checkout.root / "launch" / "a.launch.py").write_text("edited", encoding="utf-8")
    assert (share / "launch" / "a.launch.py").read_text(encoding="utf-8") == "edited"


def test_executables_and_index_entry(checkout: Checkout) -> None:
    register(checkout)
    folder = checkout.libraries / "trt_perception"
    assert {file.name for file in folder.iterdir() if file.is_file()} == set(EXECUTABLES)
    assert (checkout.venv / "share/ament_index/resource_index/packages/trt_perception").is_file()


def test_a_removed_launch_file_is_gone_after_the_next_time(checkout: Checkout) -> None:
    register(checkout)
    (checkout.root / "launch" / "a.launch.py").unlink()
    register(checkout)
    assert not (checkout.venv / "share" / "trt_perception" / "launch").exists()


def test_a_missing_executable_is_named(checkout: Checkout) -> None:
    (checkout.venv / "bin" / "camera_node").unlink()
    with pytest.raises(SetupError, match="camera_node was not installed"):
        register(checkout)
