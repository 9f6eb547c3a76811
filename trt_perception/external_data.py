"""The files beside an ONNX file in which its weights lie: where they are, and that none is read from elsewhere.

onnx.proto: TensorProto.external_data holds `location`, a path relative to the ONNX file. Versions of ONNX Runtime
before 1.24 follow it wherever it leads.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from trt_perception.checksum import model_sha256
from trt_perception.errors import ModelFileError
from trt_perception.onnx_tensors import require_inside, tensor_ends
from trt_perception.protobuf_fields import BYTES, fields, read_tag

_EXTERNAL_DATA = 13  # TensorProto.external_data, a StringStringEntryProto: key is field 1, value field 2
_MAX_ENTRY_BYTES = 1 << 16
# By this name ONNX Runtime takes a number in the file for an address in its own memory.
_IN_MEMORY = "_ORT_MEM_ADDR_"


def external_files(onnx: Path) -> dict[str, Path]:
    """The files that an ONNX file takes weights from, by their location in it; empty for most.

    Raises ModelFileError for a location outside the folder of the ONNX file (symbolic links followed), for a file
    that does not exist or is too short, and for what is no ONNX.
    """
    try:
        with onnx.open("rb") as file:
            entries = [_entry(file, end) for end in tensor_ends(file, onnx.stat().st_size)]
    except (OSError, ValueError, EOFError) as error:
        raise ModelFileError(f"{onnx} cannot be read as a .onnx file ({error}); export it again") from error
    found: dict[str, Path] = {}
    for entry in filter(None, entries):
        location = entry.get("location", "")
        path = _inside(onnx, location)
        size, end = path.stat().st_size, _number(entry, "offset") + _number(entry, "length")
        if end > size:
            raise ModelFileError(
                f"{onnx} takes its weights from {path}, which is truncated: {size} bytes, expected {end}; fetch it "
                "again"
            )
        found[location] = path
    return found


def onnx_digest(onnx: Path) -> str:
    """SHA-256 over an ONNX file and the files that its weights lie in; of the file alone where there are none.

    Raises ModelFileError as external_files does.
    """
    files = external_files(onnx)
    if not files:
        return model_sha256(onnx)
    parts = [model_sha256(onnx), *(f"{location}:{model_sha256(path)}" for location, path in sorted(files.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _entry(file: BinaryIO, end: int) -> dict[str, str]:
    """Key and value of what a tensor says of its external data; weights inside the file are passed over.

    Also where data_location does not call it external: one reader may look at the one, and one at the other.
    """
    own: dict[str, str] = {}
    while file.tell() < end:
        field, wire, length = read_tag(file)
        if wire != BYTES:
            continue
        behind = require_inside(file, length, end)
        if field == _EXTERNAL_DATA:
            if length > _MAX_ENTRY_BYTES:
                raise ValueError(f"an entry of external_data has {length} bytes")
            parts = {f: v.decode("utf-8") for f, v in fields(file.read(length)) if isinstance(v, bytes)}
            key = parts.get(1, "")
            if key in own:
                raise ValueError(f"a tensor has two entries {key!r} of external_data")
            own[key] = parts.get(2, "")
        file.seek(behind)
    return own


def _inside(onnx: Path, location: str) -> Path:
    """The file at a location; the model's own folder counts as it is named and where symbolic links lead."""
    problem = ""
    try:
        path = (onnx.parent / location).resolve()
        folders = (onnx.parent.resolve(), onnx.resolve().parent)
        if not location or Path(location).is_absolute() or _IN_MEMORY in location:
            problem = "which is no path beside it"
        elif not any(path.is_relative_to(folder) for folder in folders):
            problem = f"which leads out of its folder, to {path}"
        elif not path.is_file():
            problem = "which does not exist"
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        problem = f"which is no path ({error})"
    if problem:
        raise ModelFileError(
            f"{onnx} takes weights from {location[:200]!r}, {problem}; such a file is not loaded: fetch the model "
            "again, or save it with its weights beside it"
        )
    return path


def _number(entry: dict[str, str], key: str) -> int:
    """ONNX keeps them as decimal text; what is none is for the library that loads the model to refuse."""
    text = entry.get(key, "0")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
