"""Starts a TensorRT runtime in a child process first: 11.4 crashes the process where the driver does not fit."""

from __future__ import annotations

import functools
import subprocess
import sys

from trt_perception.backends.tensorrt_runtime.faults import explain
from trt_perception.errors import BackendUnavailableError

# os._exit, because the library's own clean-up is one of the places where it crashes.
_CHILD = """
import importlib, os, sys
library = importlib.import_module(sys.argv[1])
logger = library.Logger(library.Logger.WARNING)
runtime = library.Runtime(logger)
del runtime
sys.stdout.flush()
sys.stderr.flush()
os.write(1, b"started")
os._exit(0)
"""
_TIMEOUT_S = 120


@functools.cache
def require_runtime_starts(module: str) -> None:
    """Raises BackendUnavailableError with what the child printed when it fails, crashes or hangs."""
    command = [sys.executable, "-c", _CHILD, module]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailableError(
            f"{module} does not start: a trial in a process of its own took longer than {_TIMEOUT_S} s; see nvidia-smi"
        ) from error
    # A crash after its error message still prints "started" in some versions, so the error counts as well.
    if child.returncode == 0 and "started" in child.stdout and "[E]" not in child.stdout + child.stderr:
        return
    ending = f"crashed (signal {-child.returncode})" if child.returncode < 0 else f"ended with {child.returncode}"
    lines = [line for line in (child.stdout + child.stderr).splitlines() if line.strip() not in ("", "started")]
    said = " ".join(lines[-6:]) or "it printed nothing"
    raise BackendUnavailableError(
        f"{module} does not start here: a trial in a process of its own {ending}: {explain(said)}"
    )
