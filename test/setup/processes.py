"""Starts Python processes in `.venv` that speak ROS with each other and with nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from test import domains
from tools.setup.environment import process_environment
from tools.setup.layout import this_checkout

TIMEOUT_S = 60.0


def private_domain() -> dict[str, str]:
    """Returns variables that keep the processes of one test among themselves."""
    return {"ROS_DOMAIN_ID": str(domains.private_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@contextmanager
def started(code: str, *arguments: str, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Runs `code` in a new interpreter of `.venv`, and ends it when the block is left."""
    environment = {**process_environment(this_checkout(), os.environ), **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        # A process that is killed leaves its shared-memory segment behind.
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def result(process: subprocess.Popen[str]) -> Any:
    """Waits for the process to end and returns the JSON that it printed on its last line."""
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, f"status {process.returncode}\n{output}\n{errors}"
    return json.loads(output.splitlines()[-1])
