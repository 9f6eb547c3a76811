from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.setup.activation import extend
from tools.setup.environment import LOADER_GUARD, Variable, process_environment, variables, without_loader
from tools.setup.layout import Checkout, SetupError, this_checkout
from trt_perception.dds_environment import ENOUGH_BYTES, fastdds_profile

NAMES = (
    "AMENT_PREFIX_PATH",
    "ROS_DISTRO",
    "RMW_IMPLEMENTATION",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "LD_LIBRARY_PATH",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    site_packages = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    for name in ("ros_rcl.libs", "ros_fastrtps.libs", "numpy.libs"):
        (site_packages / name).mkdir(parents=True)
    return Checkout(tmp_path)


def test_a_process_gets_libraries_profile_and_prefix_of_the_checkout(checkout: Checkout) -> None:
    environment = process_environment(checkout, {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/opt/cuda/lib64"})
    libraries = checkout.libraries
    bundled = [str(checkout.site_packages() / name) for name in ("ros_fastrtps.libs", "ros_rcl.libs")]
    assert environment["LD_LIBRARY_PATH"].split(":") == [str(libraries), *bundled, "/opt/cuda/lib64"]
    assert environment["AMENT_PREFIX_PATH"] == str(checkout.venv)
    assert environment["PATH"] == f"{checkout.venv}/bin:/usr/bin"
    assert set(NAMES) <= set(environment)


def test_doing_it_twice_changes_nothing(checkout: Checkout) -> None:
    once = process_environment(checkout, {"PATH": "/usr/bin"})
    assert process_environment(checkout, once) == once


def test_a_sourced_distribution_stays_behind(checkout: Checkout) -> None:
    sourced = {
        "AMENT_PREFIX_PATH": "/opt/ros/jazzy",
        "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages:/home/me/mine",
        "LD_LIBRARY_PATH": "/opt/ros/jazzy/lib:/opt/ros/jazzy-other",
        "PATH": "/opt/ros/jazzy/bin:/usr/bin",
        "ROS_DISTRO": "humble",
    }
    environment = process_environment(checkout, sourced)
    assert environment["PYTHONPATH"] == "/home/me/mine"
    assert environment["LD_LIBRARY_PATH"].endswith(":/opt/ros/jazzy-other")
    assert "/opt/ros/jazzy/lib:" not in environment["LD_LIBRARY_PATH"]
    assert environment["PATH"] == f"{checkout.venv}/bin:/usr/bin"
    assert environment["AMENT_PREFIX_PATH"] == str(checkout.venv)
    assert environment["ROS_DISTRO"] == "jazzy"


def test_a_python_outside_gets_no_loader_variables(checkout: Checkout) -> None:
    environment = process_environment(checkout, {})
    outside = without_loader(environment)
    assert set(environment) - set(outside) == {"LD_LIBRARY_PATH", LOADER_GUARD}


def test_an_environment_that_was_never_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"holds 0 python3\.\*/site-packages folders, expected 1"):
        variables(Checkout(tmp_path))


def test_a_small_shared_memory_gets_the_small_profile() -> None:
    assert fastdds_profile(ENOUGH_BYTES) == "fastdds_shm.xml"
    assert fastdds_profile(64 * 1024 * 1024) == "fastdds_shm_small.xml"
    for name in ("fastdds_shm.xml", "fastdds_shm_small.xml"):
        assert (this_checkout().root / "config" / name).is_file()


@pytest.mark.parametrize("shell", ["bash", "zsh", "dash"])
def test_activation_exports_and_deactivation_restores(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    lines = " ".join(NAMES)
    script = f"""
        cd {this_checkout().root}
        export LD_LIBRARY_PATH=/mine ROS_DISTRO=mine
        show() {{ for name in {lines}; do eval "echo \\"$name=\\${{$name-}}\\""; done; }}
        . .venv/bin/activate
        . .venv/bin/activate
        for name in {lines}; do eval "echo \\"$name=\\${{$name-}}\\""; done
        command -v trt-perception
        deactivate
        echo ---
        for name in {lines}; do eval "echo \\"$name=\\${{$name-}}\\""; done
    """
    clean = {"PATH": os.environ["PATH"], "HOME": "/"}
    output = subprocess.run([shell, "-c", script], env=clean, capture_output=True, text=True, check=True).stdout
    active, restored = (part.split("\n") for part in output.split("---\n"))
    expected = process_environment(this_checkout(), {"LD_LIBRARY_PATH": "/mine"})
    assert active[: len(NAMES)] == [f"{name}={expected[name]}" for name in NAMES]
    assert active[len(NAMES)] == str(this_checkout().venv / "bin" / "trt-perception")
    kept = {"LD_LIBRARY_PATH": "/mine", "ROS_DISTRO": "mine"}
    assert restored[: len(NAMES)] == [f"{name}={kept.get(name, '')}" for name in NAMES]


def test_extending_the_activation_script_twice_is_the_same_as_once(tmp_path: Path) -> None:
    script = tmp_path / "activate"
    script.write_text("deactivate () {\n    :\n}\n", encoding="utf-8")
    added = (Variable("A", "it's"), Variable("B", "/b", prepends=True))
    extend(script, added)
    once = script.read_text(encoding="utf-8")
    extend(script, added)
    assert script.read_text(encoding="utf-8") == once
    shown = subprocess.run(["sh", "-c", f'B=/c; . {script}; echo "$A $B"'], capture_output=True, text=True, check=True)
    assert shown.stdout == "it's /b:/c\n"


def test_a_strange_activation_script_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "activate"
    script.write_text("echo hello\n", encoding="utf-8")
    with pytest.raises(SetupError, match="holds no line"):
        extend(script, ())


def test_the_interpreter_finds_ros_and_the_messages_without_activation() -> None:
    bare = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    code = "import rclpy, vision_msgs.msg as m; m.Detection2DArray.__class__.__import_type_support__(); print('ok')"
    run = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "ok\n"), run.stderr
