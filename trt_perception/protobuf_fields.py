"""The fields of a protocol buffers message, so that ONNX files can be read without the onnx package.

Encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


def read_tag(file: BinaryIO) -> tuple[int, int, int]:
    """The next field's number, its wire type, and its value: a number's own, a text's or message's length in bytes.

    A number of fixed size is skipped and counts as 0. Raises ValueError or EOFError for what is no such message.
    """
    tag = read_varint(file)
    field, wire = tag >> 3, tag & 7
    if tag >> 32:
        # Protocol buffers' own readers cut it to 32 bits, and would see another field than this one.
        raise ValueError("a field's number is longer than 32 bits: not ONNX")
    if field == 0:
        raise ValueError("field number 0: not ONNX")
    if wire in (VARINT, BYTES):
        return field, wire, read_varint(file)
    if wire not in (FIXED64, FIXED32):
        raise ValueError(f"wire type {wire}: not ONNX")
    file.seek(8 if wire == FIXED64 else 4, 1)
    return field, wire, 0


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field, numbers as int and texts and messages as bytes; raises as read_tag does."""
    file = io.BytesIO(message)
    while file.tell() < len(message):
        field, wire, value = read_tag(file)
        if wire != BYTES:
            yield field, value
            continue
        if file.tell() + value > len(message):
            raise ValueError("a metadata entry is longer than its field says")
        yield field, file.read(value)


def byte_fields(message: bytes, wanted: int) -> list[bytes]:
    """The texts or messages under one number, in their order."""
    return [value for field, value in fields(message) if field == wanted and isinstance(value, bytes)]


def read_varint(file: BinaryIO) -> int:
    """A number; raises as read_tag does."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number is longer than 64 bits: not ONNX")
