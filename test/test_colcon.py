"""The package builds, installs and tests with colcon, from the checkout and with everything it makes elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXECUTABLES = {"trt-perception", "detector_node", "camera_node", "budget_monitor_node"}
# Quick, and without the test that stands in this file.
SELECTED = "test/setup/test_stamps.py"

# Beside this interpreter, when its environment is not activated.
COLCON = shutil.which("colcon", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COLCON is None, reason="colcon is neither on PATH nor beside this interpreter"),
]


def _colcon(verb: str, folder: Path, *arguments: str) -> str:
    places = ("--paths", str(ROOT), "--build-base", str(folder / "build"), "--install-base", str(folder / "install"))
    command = [str(COLCON), "--log-base", str(folder / "log"), verb, *places, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    _colcon("build", folder)
    return folder


def test_executables_and_shared_files_are_installed_where_ros2_looks(workspace: Path) -> None:
    prefix = workspace / "install" / "trt_perception"
    assert {file.name for file in (prefix / "lib" / "trt_perception").iterdir()} == EXECUTABLES
    share = prefix / "share" / "trt_perception"
    assert (share / "config" / "fastdds_shm.xml").read_bytes() == (ROOT / "config" / "fastdds_shm.xml").read_bytes()
    assert (share / "package.xml").is_file()
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "trt_perception").is_file()


def test_the_overlay_is_what_python_imports_after_sourcing(workspace: Path) -> None:
    script = "source install/local_setup.bash && $0 -c 'import trt_perception; print(trt_perception.__file__)'"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["bash", "-c", script, sys.executable],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(workspace / "install")


def test_colcon_test_runs_pytest_and_its_results_are_clean(workspace: Path) -> None:
    _colcon("test", workspace, "--return-code-on-test-failure", "--pytest-args", SELECTED)
    results = list((workspace / "build").rglob("pytest.xml"))
    assert len(results) == 1
    (suite,) = ElementTree.parse(results[0]).getroot().iter("testsuite")
    assert int(suite.attrib["tests"]) > 0
    assert (suite.attrib["failures"], suite.attrib["errors"], suite.attrib["skipped"]) == ("0", "0", "0")
