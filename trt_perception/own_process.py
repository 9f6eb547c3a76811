"""Starts a module of this package in a process of its own, with this interpreter or another one."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

# Loads this very package, whatever else the interpreter has. The folder above it is not put on the search path: where
# that is a site-packages folder, another interpreter would find compiled packages there that do not fit it.
_BOOTSTRAP = """\
import importlib.util, runpy, sys
folder, module = sys.argv[1:3]
spec = importlib.util.spec_from_file_location(
    "trt_perception", folder + "/__init__.py", submodule_search_locations=[folder])
package = importlib.util.module_from_spec(spec)
sys.modules["trt_perception"] = package
spec.loader.exec_module(package)
sys.argv = [module, *sys.argv[3:]]
runpy.run_module(module, run_name="__main__")
"""


def module_command(module: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """The command that runs `module` (full name, with `if __name__ == "__main__"`) with those arguments.

    python: the interpreter; it needs this package's own dependencies, and not the package itself.
    """
    return [python, "-c", _BOOTSTRAP, str(_PACKAGE), module, *arguments]


def ending_words(return_code: int) -> str:
    """How a process ended, in words: `ended with status 3`, `was killed by SIGABRT`."""
    if return_code >= 0:
        return f"ended with status {return_code}"
    try:
        name = signal.Signals(-return_code).name
    except ValueError:
        name = f"signal {-return_code}"
    return f"was killed by {name}"
