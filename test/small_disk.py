"""Runs a command where a folder is a small disk of its own, empty at first, that can be made read-only."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from test.commands import ROOT

_PRIVATE = ("unshare", "--map-root-user", "--mount", "sh", "-c")


@cache
def _unavailable() -> str | None:
    """Why no private mount can be made here, None when it can."""
    try:
        done = subprocess.run([*_PRIVATE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no unshare"
    return done.stderr.strip() or "unshare failed" if done.returncode else None


def run_on_small_disk(
    folder: Path, size_kib: int, *steps: Sequence[str | Path], read_only: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the steps one after the other; the last one's exit code is the result's.

    read_only: the disk becomes so before the last step. Skips where the kernel allows no private mount.
    """
    reason = _unavailable()
    if reason is not None:
        pytest.skip(f"no private mount can be made here: {reason}")
    place = shlex.quote(str(folder))
    words = [shlex.join(map(str, step)) for step in steps]
    if read_only:
        words.insert(-1, f"mount -o remount,ro {place}")
    script = "\n".join([f"mount -t tmpfs -o size={size_kib}k tmpfs {place}", *words])
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [*_PRIVATE, script], capture_output=True, text=True, env=variables, timeout=100, check=False, cwd=ROOT
    )
