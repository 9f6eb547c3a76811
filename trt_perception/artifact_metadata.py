"""What an artifact says of itself, read from the file without the library that runs it."""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from trt_perception.errors import ModelFileError
from trt_perception.protobuf_fields import BYTES, byte_fields, fields, read_tag

_ONNX_METADATA_FIELD = 14  # onnx.proto: ModelProto.metadata_props
_ONNX_GRAPH_FIELD = 7  # ModelProto.graph
_ONNX_INPUT_FIELD = 11  # GraphProto.input
_ONNX_WEIGHT_FIELD = 5  # GraphProto.initializer, which stands in front of the inputs
_ONNX_WEIGHT_NAME_FIELD = 8  # TensorProto.name
_MAX_METADATA_BYTES = 1 << 24
_NEGATIVE = 1 << 63  # from here on, as protobuf writes a 64-bit number
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
    metadata: dict[str, str] = {}
    with path.open("rb") as file:
        for field, length in _top_fields(file, path.stat().st_size):
            if field != _ONNX_METADATA_FIELD:
                file.seek(length, 1)
                continue
            if length > _MAX_METADATA_BYTES:
                raise ValueError(f"a metadata entry of {length} bytes is too long")
            # StringStringEntryProto: key is field 1, value is field 2.
            entry = {f: v.decode("utf-8", "replace") for f, v in fields(file.read(length)) if isinstance(v, bytes)}
            metadata[entry.get(1, "")] = entry.get(2, "")
    return metadata


class OnnxInput(NamedTuple):
    """An input of an ONNX network; shape: None for an axis of free size."""

    name: str
    shape: tuple[int | None, ...]


def onnx_input(path: Path) -> OnnxInput | None:
    """The first input that an .onnx file states and has no weights for; None when there is none, or no shape for it.

    Raises ModelFileError for a file that is no ONNX.
    """
    try:
        with path.open("rb") as file:
            for field, length in _top_fields(file, path.stat().st_size):
                if field == _ONNX_GRAPH_FIELD:
                    return _first_input(file, file.tell() + length)
                file.seek(length, 1)
    except _DAMAGE as error:
        raise ModelFileError(f"{path} cannot be read as a .onnx file ({error}); export it again") from error
    return None


def _top_fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Number and length of each message below; the caller reads or skips it, so that a file's size costs nothing."""
    if end == 0:
        raise ValueError("the file is empty")
    while file.tell() < end:
        field, wire, length = read_tag(file)
        if wire != BYTES:
            continue
        if file.tell() + length > end:
            raise ValueError("a field is longer than the file: it is truncated or not ONNX")
        yield field, length


def _first_input(file: BinaryIO, end: int) -> OnnxInput | None:
    weights: set[bytes] = set()
    for field, length in _top_fields(file, end):
        behind = file.tell() + length
        if field == _ONNX_WEIGHT_FIELD:
            weights.add(_weight_name(file, behind))
        elif field == _ONNX_INPUT_FIELD and length <= _MAX_METADATA_BYTES:
            entry = file.read(length)
            name = next(iter(byte_fields(entry, 1)), b"")
            # Before IR version 4 weights are inputs as well.
            if name not in weights:
                return _stated_input(name, entry)
        file.seek(behind)
    return None


def _weight_name(file: BinaryIO, end: int) -> bytes:
    """Of a TensorProto, whose elements are passed over."""
    for field, length in _top_fields(file, end):
        if field == _ONNX_WEIGHT_NAME_FIELD and length <= _MAX_METADATA_BYTES:
            return file.read(length)
        file.seek(length, 1)
    return b""


def _stated_input(name: bytes, entry: bytes) -> OnnxInput | None:
    # ValueInfoProto.type, TypeProto.tensor_type, its shape, and the shape's axes, whose field 1 is a fixed size.
    parts = [entry]
    for number in (2, 1, 2):
        parts = [inner for part in parts for inner in byte_fields(part, number)]
    axes = [axis for part in parts for axis in byte_fields(part, 1)]
    sizes = [next((v for f, v in fields(axis) if f == 1 and isinstance(v, int)), 0) for axis in axes]
    # A free size is written as a name, as nothing, or as a number below 0.
    shape = tuple(size if 0 < size < _NEGATIVE else None for size in sizes)
    return OnnxInput(name.decode("utf-8", "replace"), shape) if parts else None


def _read_torchscript(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            bytes_said = max(entry.file_size, entry.compress_size)
            if entry.filename.endswith("/extra/config.txt") and bytes_said <= _MAX_METADATA_BYTES:
                return texts(json.loads(archive.read(entry)))
    return {}


def _read_engine(path: Path) -> dict[str, str]:
    """Ultralytics puts a 4-byte little-endian length and that much JSON in front; else the manifest beside it tells."""
    header = engine_header_size(path)
    if header == 0:
        manifest = path.with_name(path.name + ".json")
        if not manifest.is_file():
            return {}
        try:
            values = json.loads(manifest.read_text(encoding="utf-8"))
        except _DAMAGE as error:
            raise ModelFileError(
                f"{manifest} is no engine manifest ({error}); delete it and build the engine again"
            ) from error
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
