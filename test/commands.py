"""Runs the command line as a person does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def trt_perception(arguments: Sequence[str | Path], **options: str) -> subprocess.CompletedProcess[str]:
    """`trt-perception` with those arguments; options are added to the environment."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "trt_perception.cli.main", *map(str, arguments)]
    # torch's threads wait busily by default, which takes seconds an inference where tests share their cores.
    environment = {**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE", **options}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
