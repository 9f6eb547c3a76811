"""Writes a file so that nobody ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from trt_perception.errors import WriteError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside the target and renames: after a crash or Ctrl-C the old file or the new one is there, whole.

    Missing folders are made. Raises WriteError, with the old file as it was, when the disk is full or the folder
    cannot be written.
    """
    try:
        temporary, handle = _temporary_beside(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; an engine is as readable as any other file of the user's.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _write_error(path, error) from error


def require_writable(path: Path) -> None:
    """Raises WriteError when no file can be written there: asked before minutes of work that end in one.

    Missing folders are made. A disk that fills up later is not foreseen.
    """
    try:
        temporary, handle = _temporary_beside(path)
        os.close(handle)
        temporary.unlink()
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder", str(path))
    except OSError as error:
        raise _write_error(path, error) from error


def _temporary_beside(path: Path) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    return Path(name), handle


def _write_error(path: Path, error: OSError) -> WriteError:
    return WriteError(
        f"{path} cannot be written ({error.strerror or error}); make room there, or choose a folder that can be written"
    )


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
