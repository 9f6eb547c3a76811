"""Remembers which steps are done: a step is done while the digest of all that it depends on is unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def digest(root: Path, inputs: Iterable[Path], extra: Iterable[str] = ()) -> str:
    """Returns the SHA-256 (hexadecimal) of the names and contents of `inputs`, and of the texts in `extra`.

    Args:
        root: names are taken relative to this folder.
        inputs: files, and folders whose files count all; one that does not exist raises FileNotFoundError.
        extra: further texts that a step depends on, such as the version of the interpreter.
    """
    total = hashlib.sha256()
    for path in inputs:
        for file in _files(path):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.relative_to(root).as_posix()}\0{content}\n".encode())
    for text in extra:
        total.update(f"{text}\0".encode())
    return total.hexdigest()


def is_done(folder: Path, step: str, current: str) -> bool:
    """Says whether `step` was finished with the digest `current`."""
    stamp = folder / step
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == current


def mark_done(folder: Path, step: str, current: str) -> None:
    """Records that `step` was finished with the digest `current`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / step).write_text(current, encoding="utf-8")


def mark_open(folder: Path, step: str) -> None:
    """Forgets that `step` was ever finished, before it starts to change things."""
    (folder / step).unlink(missing_ok=True)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file
