"""What an artifact says of itself, read from the file without the library that runs it."""

from __future__ import annotations

import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from trt_perception.errors import ModelFileError

_ONNX_METADATA_FIELD = 14  # onnx.proto: ModelProto.metadata_props
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protocol buffers' wire types
_MAX_METADATA_BYTES = 1 << 24
_MAX_ENGINE_HEADER_BYTES = 1 << 20
# What opening and reading damaged files raises; RuntimeError: an encrypted or unusually compressed archive.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def read_metadata(path: Path, suffix: str | None = None) -> dict[str, str]:
    """The metadata of an .onnx, .torchscript, .pt or .engine file, empty when it carries none.

    suffix: the format, for a file that does not bear its suffix. Ultralytics' exports keep names, imgsz, stride and
    task there. Raises ModelFileError for another suffix or a file that is not of its suffix's format.
    """
    suffix = suffix or path.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        raise ModelFileError(f"{path} is not a model; expected a file ending in .yaml, {', '.join(_READERS)}")
    try:
        return reader(path)
    except _DAMAGE as error:
        raise ModelFileError(f"{path} cannot be read as a {suffix} file ({error}); export it again") from error


def _read_onnx(path: Path) -> dict[str, str]:
    """Walks ModelProto's top level and skips the graph, so that the file's size costs nothing."""
    metadata: dict[str, str] = {}
    with path.open("rb") as file:
        size = path.stat().st_size
        if size == 0:
            raise ValueError("the file is empty")
        while file.tell() < size:
            field, wire, length = _read_tag(file)
            if wire != _BYTES:
                continue
            if file.tell() + length > size:
                raise ValueError("a field is longer than the file: it is truncated or not ONNX")
            if field != _ONNX_METADATA_FIELD:
                file.seek(length, 1)
                continue
            if length > _MAX_METADATA_BYTES:
                raise ValueError(f"a metadata entry of {length} bytes is too long")
            key, value = _key_and_value(file.read(length))
            metadata[key] = value
    return metadata


def _read_tag(file: BinaryIO) -> tuple[int, int, int]:
    """The next field's number, its wire type, and its length when it is bytes; scalars are skipped."""
    tag = _read_varint(file)
    field, wire = tag >> 3, tag & 7
    if field == 0:
        raise ValueError("field number 0: not ONNX")
    if wire == _BYTES:
        return field, wire, _read_varint(file)
    if wire == _VARINT:
        _read_varint(file)
    elif wire in (_FIXED64, _FIXED32):
        file.seek(8 if wire == _FIXED64 else 4, 1)
    else:
        raise ValueError(f"wire type {wire}: not ONNX")
    return field, wire, 0


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is longer than 64 bits: not ONNX")


def _key_and_value(entry: bytes) -> tuple[str, str]:
    """StringStringEntryProto: key is field 1, value is field 2."""
    fields = dict(_byte_fields(entry))
    return fields.get(1, b"").decode("utf-8", "replace"), fields.get(2, b"").decode("utf-8", "replace")


def _byte_fields(entry: bytes) -> Iterator[tuple[int, bytes]]:
    file = io.BytesIO(entry)
    while file.tell() < len(entry):
        field, wire, length = _read_tag(file)
        if wire != _BYTES:
            continue
        if file.tell() + length > len(entry):
            raise ValueError("a metadata entry is longer than its field says")
        yield field, file.read(length)


def _read_torchscript(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("/extra/config.txt") and entry.file_size <= _MAX_METADATA_BYTES:
                return texts(json.loads(archive.read(entry)))
    return {}


def _read_engine(path: Path) -> dict[str, str]:
    """Ultralytics puts a 4-byte little-endian length and that much JSON in front; else the manifest beside it tells."""
    header = engine_header_size(path)
    if header == 0:
        manifest = path.with_name(path.name + ".json")
        if not manifest.is_file():
            return {}
        values = json.loads(manifest.read_text(encoding="utf-8"))
        return texts(values.get("metadata", {}) if isinstance(values, dict) else values)
    with path.open("rb") as file:
        return texts(json.loads(file.read(header)[4:]))


def engine_header_size(path: Path) -> int:
    """Bytes in front of the engine proper: 0 for an engine as trtexec writes it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(4), "little")
        if not 2 <= length <= _MAX_ENGINE_HEADER_BYTES:
            return 0
        text = file.read(length)
    if len(text) < length or not text.startswith(b"{"):
        return 0
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return 0
    return 4 + length


def texts(values: object) -> dict[str, str]:
    """A JSON object as text to text, which is what ONNX can hold."""
    if not isinstance(values, dict):
        raise ValueError("the metadata is not a JSON object")
    return {str(key): value if isinstance(value, str) else _json(value) for key, value in values.items()}


def _json(value: object) -> str:
    # Characters stay as they are: the readers of names take Python's literals, which know no surrogate pairs.
    return json.dumps(value, ensure_ascii=False)


_READERS: dict[str, Callable[[Path], dict[str, str]]] = {
    ".onnx": _read_onnx,
    ".torchscript": _read_torchscript,
    ".pt": _read_torchscript,
    ".engine": _read_engine,
}
