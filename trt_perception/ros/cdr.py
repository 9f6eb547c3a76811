"""Serialised messages, read and written in place: Common Data Representation as DDS sends it.

What rclpy publishes and takes as bytes: four bytes that name the representation, then the fields in order. A number
lies at a multiple of its own size, counted from behind those four bytes; a text is its length with the closing zero
(uint32), its UTF-8 bytes and that zero; a sequence is its length (uint32) and its elements. OMG, Common Object Request
Broker Architecture 3.3 part 2, 9.3, and Real-time Publish-Subscribe Protocol 2.5, 10.
"""

from __future__ import annotations

import struct

_BIG, _LITTLE = b"\0\0", b"\0\1"
_PREFIX_BYTES = 4


class CdrError(ValueError):
    """The bytes end early, or are in a representation that is not read here."""


class CdrReader:
    """Takes fields one after the other; every length is checked against what is there before it is used.

    Nothing is copied but texts.
    """

    def __init__(self, data: bytes) -> None:
        """Raises CdrError for another representation than plain CDR; what rclpy sends is plain."""
        kind = data[:2]
        if kind not in (_BIG, _LITTLE) or len(data) < _PREFIX_BYTES:
            raise CdrError(f"begins with {data[:4].hex(' ') or 'nothing'}; expected plain CDR, 00 00 or 00 01")
        self._data = memoryview(data)
        self._order = "<" if kind == _LITTLE else ">"
        self._uint32 = struct.Struct(f"{self._order}I")
        self._int32 = struct.Struct(f"{self._order}i")
        self._position = _PREFIX_BYTES

    def uint8(self) -> int:
        """One byte."""
        return int(self._take(1)[0])

    def int32(self) -> int:
        """A signed number of four bytes."""
        self._align(4)
        return int(self._int32.unpack(self._take(4))[0])

    def uint32(self) -> int:
        """A number of four bytes."""
        self._align(4)
        return int(self._uint32.unpack(self._take(4))[0])

    def text(self) -> str:
        """A text; bytes that are no UTF-8 become replacement characters, as in rclpy."""
        content = self._take(self.uint32())
        return str(content[:-1], "utf-8", "replace") if content else ""

    def uint8_sequence(self) -> memoryview:
        """A sequence of bytes, over the message's own memory."""
        return self._take(self.uint32())

    def _align(self, size: int) -> None:
        self._position += -(self._position - _PREFIX_BYTES) % size

    def _take(self, size: int) -> memoryview:
        end = self._position + size
        if end > len(self._data):
            raise CdrError(
                f"{size} bytes are announced from byte {self._position} on, the message has {len(self._data)}"
            )
        taken = self._data[self._position : end]
        self._position = end
        return taken


class CdrWriter:
    """Puts fields one after the other, little-endian; finish() gives the message."""

    def __init__(self) -> None:
        self._parts = [_LITTLE + b"\0\0"]
        self.position = 0

    def put(self, data: bytes) -> None:
        """Bytes that are laid out already, for this position."""
        self._parts.append(data)
        self.position += len(data)

    def align(self, size: int) -> None:
        """Zeros up to the next multiple of size."""
        self.put(bytes(-self.position % size))

    def uint32(self, value: int) -> None:
        """A number of four bytes."""
        self.align(4)
        self.put(_UINT32.pack(value))

    def text(self, encoded: bytes) -> None:
        """A text, given as UTF-8 without its closing zero."""
        self.uint32(len(encoded) + 1)
        self.put(encoded + b"\0")

    def finish(self) -> bytes:
        """The whole message."""
        return b"".join(self._parts)


_UINT32 = struct.Struct("<I")
