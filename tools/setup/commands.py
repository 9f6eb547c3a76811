"""Runs the commands of the set-up: their output goes to the log, and into the error when one fails."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.setup.layout import SetupError

TAIL_LINES = 25


def run_logged(command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str], remedy: str) -> None:
    """Runs `command` in `folder`; a failure raises SetupError with the end of its output and with `remedy`.

    Args:
        command: the program and its arguments.
        log: file that the command and all that it prints are appended to.
        folder: working directory.
        environment: all environment variables of the command.
        remedy: what the user can do when it fails.
    """
    with log.open("ab") as file:
        file.write(f"\n$ {' '.join(command)}\n".encode())
        file.flush()
        start = file.tell()
        try:
            status = subprocess.run(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                check=False,
            ).returncode
        except OSError as error:
            raise SetupError(f"{command[0]} cannot be started: {error}", remedy) from error
    if status != 0:
        with log.open("rb") as file:
            file.seek(start)
            lines = file.read().decode(errors="replace").splitlines()
        tail = "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
        raise SetupError(f"`{' '.join(command)}` ended with status {status}:\n{tail}", remedy)
