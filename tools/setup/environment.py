"""The environment variables of every process that uses `.venv`: the one place that names them.

`python -m tools.setup.environment` prints them for a shell; with a command behind it, runs that command with
them. `bin/activate` gets the same list written into it (activation.py).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tools.setup.layout import Checkout, this_checkout
from trt_perception.dds_environment import dds_variables

# The ROS wheels start every interpreter a second time to set LD_LIBRARY_PATH, unless this variable is there.
LOADER_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


@dataclass(frozen=True)
class Variable:
    """One environment variable.

    Attributes:
        name: its name.
        value: its value.
        prepends: True for a search path, where the value goes before what the variable already holds.
    """

    name: str
    value: str
    prepends: bool = False


def variables(checkout: Checkout) -> tuple[Variable, ...]:
    """Returns what activation of `.venv` adds to an environment, in a fixed order."""
    bundled = sorted(str(folder) for folder in checkout.site_packages().glob("ros_*.libs"))
    return (
        Variable("AMENT_PREFIX_PATH", str(checkout.venv), prepends=True),
        Variable("ROS_DISTRO", "jazzy"),
        Variable("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"),
        *(Variable(name, value) for name, value in dds_variables(checkout.root / "config").items()),
        Variable("LD_LIBRARY_PATH", os.pathsep.join([str(checkout.libraries), *bundled]), prepends=True),
        Variable(LOADER_GUARD, "1"),
    )


def process_environment(checkout: Checkout, inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a process that runs in `.venv`, whatever the calling shell had sourced.

    A sourced ROS distribution is left behind: its Python packages and libraries would be found before those in
    `.venv`, and do not fit them.
    """
    own = str(checkout.venv)
    foreign = [prefix for prefix in _entries(inherited.get("AMENT_PREFIX_PATH", "")) if prefix != own]
    environment = dict(inherited)
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "PATH"):
        kept = [entry for entry in _entries(environment.pop(name, "")) if not _is_below(entry, foreign)]
        if kept:
            environment[name] = os.pathsep.join(kept)
    environment.pop("AMENT_PREFIX_PATH", None)
    environment.pop("PYTHONHOME", None)
    environment["VIRTUAL_ENV"] = own
    for variable in (Variable("PATH", str(checkout.venv / "bin"), prepends=True), *variables(checkout)):
        present = _entries(environment.get(variable.name, "")) if variable.prepends else []
        added = _entries(variable.value) if variable.prepends else [variable.value]
        environment[variable.name] = os.pathsep.join([*added, *(entry for entry in present if entry not in added)])
    return environment


def without_loader(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns `environment` for a Python outside `.venv`.

    Another environment made from ROS wheels would take the loader's guard for its own and find no libraries.
    """
    return {name: value for name, value in environment.items() if name not in ("LD_LIBRARY_PATH", LOADER_GUARD)}


def _entries(search_path: str) -> list[str]:
    return [entry for entry in search_path.split(os.pathsep) if entry]


def _is_below(entry: str, prefixes: list[str]) -> bool:
    return any(entry == prefix or entry.startswith(prefix.rstrip("/") + "/") for prefix in prefixes)


def main(arguments: list[str]) -> int:
    """Prints the variables as `export` lines, or replaces this process by the command in `arguments`."""
    checkout = this_checkout()
    environment = process_environment(checkout, os.environ)
    if arguments:
        os.execvpe(arguments[0], arguments, environment)
    names = ("VIRTUAL_ENV", "PATH", *(variable.name for variable in variables(checkout)))
    for name in names:
        print(f"export {name}={shlex.quote(environment[name])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
