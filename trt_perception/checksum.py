"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trt_perception.errors import ModelFileError


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in lower-case hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def model_sha256(path: Path) -> str:
    """The same of a model's file; raises ModelFileError where it cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): check the file and its permissions") from error
