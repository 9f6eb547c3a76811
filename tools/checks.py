"""Runs the linter, the type checker and the tests, all of them even when one fails, and sums up at the end.

`python -m tools.checks [--lint] PATH... [-- PYTEST ARGUMENT...]`, in `.venv`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

# A test that hangs shall fail rather than hold up all others.
TEST_TIMEOUT_S = 300


@dataclass(frozen=True)
class Check:
    """One check: its name and its command."""

    name: str
    command: tuple[str, ...]


def checks(paths: tuple[str, ...], pytest_arguments: tuple[str, ...], lint_only: bool) -> tuple[Check, ...]:
    """Returns the checks, the quickest first; the type checker looks at the files and folders `paths` alone."""
    python = sys.executable
    static = (
        Check("ruff check", (python, "-m", "ruff", "check", ".")),
        Check("ruff format", (python, "-m", "ruff", "format", "--check", ".")),
        Check("mypy", (python, "-m", "mypy", *paths)),
    )
    tests = Check("pytest", (python, "-m", "pytest", f"--timeout={TEST_TIMEOUT_S}", *pytest_arguments))
    return static if lint_only else (*static, tests)


def main(arguments: list[str]) -> int:
    """Runs the checks named by `arguments`; returns 0 when all pass and 1 otherwise."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, pytest_arguments = arguments[:split], tuple(arguments[split + 1 :])
    paths = tuple(option for option in options if option != "--lint")
    summary = []
    failed = False
    for check in checks(paths, pytest_arguments, lint_only="--lint" in options):
        print(f"\n== {check.name}", flush=True)
        start_s = time.monotonic()
        status = subprocess.run(check.command, check=False).returncode
        failed = failed or status != 0
        verdict = "passed" if status == 0 else f"FAILED (status {status})"
        summary.append(f"  {check.name:<12} {verdict}, {time.monotonic() - start_s:.0f} s")
    print("\n== summary", *summary, sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
