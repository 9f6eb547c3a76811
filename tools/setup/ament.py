"""Makes `ros2 launch` and `ros2 run` find the checkout in `.venv`, as they find an installed package elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools.setup.layout import EXECUTABLES, PACKAGE, Checkout, SetupError


def register(checkout: Checkout) -> None:
    """Writes the package's index entry, and links the files in its share and lib folders to the checkout.

    Links rather than copies: an edited launch file or parameter file counts at once. Links to files rather than to
    folders: `ros2 launch` does not look into a folder that is a link.
    """
    index = checkout.venv / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True, exist_ok=True)
    (index / PACKAGE).touch()
    share = _emptied(checkout.venv / "share" / PACKAGE)
    for name in shared_files(checkout.root):
        _link(share / name, checkout.root / name)
    executables = _emptied(checkout.libraries / PACKAGE)
    for name in EXECUTABLES:
        installed = checkout.venv / "bin" / name
        if not installed.is_file():
            raise SetupError(
                f"{installed} was not installed; setup.py's console_scripts and tools/setup/layout.py disagree",
                "Make both name the same executables.",
            )
        _link(executables / name, installed)


def shared_files(root: Path) -> tuple[str, ...]:
    """Returns the files of the checkout `root` that belong into the package's share folder, as relative paths."""
    found = [file for folder in ("launch", "config") for file in sorted((root / folder).rglob("*"))]
    files = [file.relative_to(root).as_posix() for file in found if file.is_file() and "__pycache__" not in file.parts]
    return ("package.xml", *files)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))
