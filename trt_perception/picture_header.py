"""Looks at a JPEG or PNG picture's structure before a decoder does, which would allocate or work without bound."""

from __future__ import annotations

from trt_perception.errors import ImageError

_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_FIRST_CHUNK = 8
# Animations: a camera sends none, and OpenCV 4.11 and newer would look at every frame of one.
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_JPEG_START = b"\xff\xd8\xff"
# Frame headers (ITU-T T.81, table B.1): 0xC0 to 0xCF but for three that are something else.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that nothing follows, and zero, which is no marker but a byte 0xFF of the data.
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_SCAN, _END = 0xDA, 0xD9
_SCAN_START = b"\xff\xda"
# A progressive picture has about ten; a decoder goes over all pixels for each.
_MOST_SCANS = 64


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels; raises ImageError for what is no JPEG or PNG picture, is damaged, or animated."""
    if data.startswith(_PNG_START):
        _check_chunks(data)
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    elif data.startswith(_JPEG_START):
        if data.count(_SCAN_START) > _MOST_SCANS:
            raise ImageError(f"data ({len(data)} bytes) is a JPEG picture of more than {_MOST_SCANS} scans")
        size = _jpeg_size(data)
    else:
        raise ImageError(f"data ({len(data)} bytes) is no JPEG or PNG picture; it begins with {data[:8]!r}")
    if not all(size):
        raise ImageError(
            f"data ({len(data)} bytes) is a damaged JPEG or PNG picture: it does not say its width and height"
        )
    return size


def _check_chunks(data: bytes) -> None:
    """OpenCV makes room for as many bytes as a chunk says that it has, up to 2 GiB, before it reads them."""
    position = _PNG_FIRST_CHUNK
    while position < len(data):
        kind, length = data[position + 4 : position + 8], int.from_bytes(data[position : position + 4], "big")
        if kind in _ANIMATION:
            raise ImageError(f"data ({len(data)} bytes) is an animation; expected a JPEG or PNG picture")
        position += 12 + length
        if kind == b"IEND":
            return
    raise ImageError(f"data ({len(data)} bytes) is a PNG picture without its end; part of the message is lost")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Of the first frame header; bytes between segments are skipped, as libjpeg does."""
    position = 2
    while True:
        position = data.find(b"\xff", position)
        while position >= 0 and data[position : position + 1] == b"\xff":
            position += 1
        if position < 0 or position + 9 > len(data):
            return 0, 0
        marker, position = data[position], position + 1
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in (_SCAN, _END):
            return 0, 0
        if marker in _FRAME_MARKERS:
            height, width = data[position + 3 : position + 5], data[position + 5 : position + 7]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        position += int.from_bytes(data[position : position + 2], "big")
