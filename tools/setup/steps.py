"""The steps that make `.venv`, in order: what each depends on, what it does, what to do when it fails."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.setup.activation import extend
from tools.setup.ament import register, shared_files
from tools.setup.commands import run_logged
from tools.setup.environment import process_environment, variables
from tools.setup.layout import Checkout, SetupError
from trt_perception.dds_environment import fastdds_profile, shared_memory_bytes

PIP_INSTALL = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off")
PIP_REMEDY = (
    "Look whether network, disk space and pip's index settings (`pip config list`) are right, then start again; "
    "what was installed stays."
)
COMPILE_REMEDY = "Look whether gcc, g++ and the headers of this Python work, then start again."


@dataclass(frozen=True)
class Step:
    """One step of the set-up.

    Attributes:
        name: short name, also that of its stamp.
        title: what it does, for people.
        inputs: files and folders, relative to the checkout, whose change makes it run again.
        action: does it; raises SetupError.
        texts: further things that it depends on, as text.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    action: Callable[[Checkout], None]
    texts: tuple[str, ...] = ()


def _make_environment(checkout: Checkout) -> None:
    if Path(sys.prefix).resolve() == checkout.venv.resolve():
        raise SetupError(
            f"{sys.executable} belongs to the environment that is to be made anew",
            "Run `deactivate`, or start again with a Python outside .venv: make setup PYTHON=/usr/bin/python3",
        )
    log = checkout.log.read_bytes() if checkout.log.is_file() else b""
    shutil.rmtree(checkout.venv, ignore_errors=True)
    checkout.venv.mkdir()
    checkout.log.write_bytes(log)
    remedy = "Look whether `python3 -m venv` works at all (package python3-venv), then start again."
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    run_logged([sys.executable, "-m", "venv", str(checkout.venv)], checkout.log, checkout.root, clean, remedy)


def _python(checkout: Checkout, arguments: tuple[str, ...], remedy: str) -> None:
    environment = process_environment(checkout, os.environ)
    run_logged([str(checkout.python), *arguments], checkout.log, checkout.root, environment, remedy)


def _locked(*names: str) -> Callable[[Checkout], None]:
    """Returns an action that installs lock files: they are complete, so pip need not look at dependencies."""
    files = tuple(argument for name in names for argument in ("-r", f"requirements/{name}.txt"))
    # The source distributions among them (empy, yolox) are built with what is installed already.
    options = ("--no-deps", "--no-build-isolation", "--use-pep517")
    return lambda checkout: _python(checkout, (*PIP_INSTALL, *options, *files), PIP_REMEDY)


def _install_torch(checkout: Checkout) -> None:
    # With dependencies: a CUDA build of torch brings its own libraries, a CPU build has none.
    files = ("-r", "requirements/torch.txt", "-c", "requirements/constraints.txt")
    _python(checkout, (*PIP_INSTALL, *files), PIP_REMEDY)


def _build_messages(checkout: Checkout) -> None:
    _python(checkout, ("-m", "tools.setup.messages"), COMPILE_REMEDY)


def _install_project(checkout: Checkout) -> None:
    options = ("--no-deps", "--no-build-isolation", "--editable", ".")
    _python(checkout, (*PIP_INSTALL, *options), "Look at setup.py and pyproject.toml, which pip could not build from.")


def _extend_activation(checkout: Checkout) -> None:
    extend(checkout.venv / "bin" / "activate", variables(checkout))


def _interpreter(root: Path) -> tuple[str, ...]:
    """Returns what the environment is tied to: the interpreter's version and place, and the checkout's place."""
    return (sys.version, sys.base_prefix, str(root))


def demo_steps(root: Path) -> tuple[Step, ...]:
    """Returns the steps for running nodes and command line in the checkout `root`."""
    return (
        Step("environment", "make .venv", (), _make_environment, _interpreter(root)),
        Step("runtime", "install what the program needs", ("requirements/runtime.txt",), _locked("runtime")),
        Step("ros", "install ROS 2 Jazzy", ("requirements/ros.txt",), _locked("ros")),
        Step(
            "messages",
            "generate and compile the messages without wheels",
            (
                "interfaces",
                "requirements/ros.txt",
                "requirements/runtime.txt",
                "tools/setup/messages.py",
                "tools/setup/message_code.py",
                "tools/setup/message_libraries.py",
            ),
            _build_messages,
        ),
        Step(
            "project",
            "install this package (editable)",
            ("setup.py", "setup.cfg", "pyproject.toml"),
            _install_project,
        ),
        Step(
            "ament",
            "let ros2 launch and ros2 run find it",
            ("setup.py", "tools/setup/ament.py", "tools/setup/layout.py"),
            register,
            shared_files(root),
        ),
        Step(
            "activation",
            "write the ROS variables into bin/activate",
            (
                "tools/setup/activation.py",
                "tools/setup/environment.py",
                "trt_perception/dds_environment.py",
                "requirements/ros.txt",
            ),
            _extend_activation,
            (fastdds_profile(shared_memory_bytes()),),
        ),
    )


def test_steps(root: Path) -> tuple[Step, ...]:
    """Returns the steps for running the tests too: the demo's, then test tools, torch, networks of others."""
    return (
        *demo_steps(root),
        Step("test", "install the test tools", ("requirements/test.txt",), _locked("test")),
        Step("torch", "install torch", ("requirements/torch.txt", "requirements/constraints.txt"), _install_torch),
        Step(
            "architectures",
            "install the networks that heads are compared with",
            ("requirements/architectures.txt", "requirements/torch.txt"),
            _locked("architectures"),
        ),
    )


LEVELS: dict[str, Callable[[Path], tuple[Step, ...]]] = {"demo": demo_steps, "test": test_steps}
