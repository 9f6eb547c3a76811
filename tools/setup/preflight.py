"""What the machine must have before the set-up can start, each with the command that supplies it.

Written to run on any Python 3, so that one that is too old gets a sentence rather than a traceback.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 14)
OLDEST_GLIBC = (2, 28)


def problems(root: Path) -> list[str]:
    """Returns one sentence for each thing that is missing, with the remedy; empty when all is there."""
    checks = (_interpreter(), _machine(), _libc(), _headers(), _venv(), _compilers(), _folder(root))
    return [sentence for sentence in checks if sentence]


def _interpreter() -> str:
    version = sys.version_info[:2]
    if platform.python_implementation() == "CPython" and OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return ""
    names = [f"python3.{minor}" for minor in range(OLDEST_PYTHON[1], NEWEST_PYTHON[1] + 1)]
    usable = [name for name in names if shutil.which(name)]
    choice = f"Choose another: PYTHON={usable[-1]} make setup" if usable else "Install one: sudo apt install python3"
    return (
        f"{sys.executable} is {platform.python_implementation()} {platform.python_version()}; "
        f"the ROS wheels need CPython {_dotted(OLDEST_PYTHON)} to {_dotted(NEWEST_PYTHON)}. {choice}"
    )


def _machine() -> str:
    machine = platform.machine()
    if sys.platform == "linux" and machine == "x86_64":
        return ""
    return (
        f"This is {sys.platform} on {machine}; ROS wheels exist for Linux on x86_64 only. "
        "Here, install a ROS 2 distribution and build this package with colcon (README)"
    )


def _libc() -> str:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        text = ""
    numbers = text.replace("glibc", "").strip().split(".")
    if len(numbers) >= 2 and tuple(int(number) for number in numbers[:2]) >= OLDEST_GLIBC:
        return ""
    return (
        f"The C library is {text or 'not glibc'}; the wheels need glibc {_dotted(OLDEST_GLIBC)} or newer. "
        "Use Debian 10, Ubuntu 20.04 or anything newer"
    )


def _headers() -> str:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if header.is_file():
        return ""
    return f"{header} is missing (it is needed to compile messages): sudo apt install python{_own_version()}-dev"


def _venv() -> str:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"{sys.executable} has no {' and no '.join(missing)}: sudo apt install python{_own_version()}-venv"


def _compilers() -> str:
    missing = [name for name in ("gcc", "g++") if shutil.which(name) is None]
    if not missing:
        return ""
    return f"{' and '.join(missing)} not found (needed to compile messages): sudo apt install gcc g++"


def _folder(root: Path) -> str:
    if os.pathsep not in str(root):
        return ""
    return f"The checkout lies in {root}, and a colon cannot stand in a search path: move it elsewhere"


def _own_version() -> str:
    return _dotted(sys.version_info[:2])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)
