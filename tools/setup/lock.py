"""Writes the lock files under requirements/ from the .in files: `make lock`, when versions are to move.

All levels are resolved together once (constraints.txt), for every supported Python, so that no two of them disagree;
then each level's own file is cut out of that.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tools.setup.layout import this_checkout
from tools.setup.preflight import OLDEST_PYTHON

LEVELS = ("runtime", "ros", "test")
RESOLVER = "uv==0.13.8"
OPTIONS = ("--universal", "--no-annotate", "--custom-compile-command", "make lock", "--quiet")


def main() -> int:
    """Resolves and writes constraints.txt and the file of each level; returns 0."""
    requirements = this_checkout().requirements
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        resolver = Path(folder) / "bin" / "uv"
        subprocess.run([f"{folder}/bin/pip", "install", "--quiet", RESOLVER], check=True)
        constraints = requirements / "constraints.txt"
        constraints.unlink(missing_ok=True)
        _resolve(resolver, requirements, LEVELS, constraints.name)
        for level in LEVELS:
            (requirements / f"{level}.txt").unlink(missing_ok=True)
            _resolve(resolver, requirements, (level,), f"{level}.txt", "--constraints", constraints.name)
    return 0


def _resolve(resolver: Path, folder: Path, levels: tuple[str, ...], output: str, *options: str) -> None:
    oldest = ".".join(str(number) for number in OLDEST_PYTHON)
    sources = [f"{level}.in" for level in levels]
    command = [str(resolver), "pip", "compile", *OPTIONS, "--python-version", oldest, *options, *sources, "-o", output]
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main())
