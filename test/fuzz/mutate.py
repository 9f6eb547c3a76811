"""Changes to valid input, and values at which code tends to break; everything follows from the random numbers given."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

INTEGERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-45,
    1e-30,
    1e30,
    3.4e38,
    1e308,
    -1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
)
TEXTS = ("", "0", "-1", "a", "é", "\x00", "../x", "/dev/zero", "~", "%s", "{}", "9" * 400, "[" * 300, "\ud800", "1e999")
BYTES = (
    b"",
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x80" * 12,
    b"\x7f\xff\xff\xff",
    b"\n",
    b": ",
    b"\r\n",
    b"\xff\xd9",
)


def mutated(random: Random, content: bytes, dictionary: Sequence[bytes] = BYTES, at_most: int = 5) -> bytes:
    """The content with one to `at_most` changes of random kinds at random places."""
    copy = bytearray(content)
    for _ in range(random.choice((1, 1, 2, random.randint(1, at_most)))):
        random.choice(_CHANGES)(random, copy, dictionary)
    return bytes(copy)


def _flip_bit(random: Random, copy: bytearray, _: Sequence[bytes]) -> None:
    if copy:
        copy[random.randrange(len(copy))] ^= 1 << random.randrange(8)


def _set_byte(random: Random, copy: bytearray, _: Sequence[bytes]) -> None:
    if copy:
        copy[random.randrange(len(copy))] = random.randrange(256)


def _insert_word(random: Random, copy: bytearray, dictionary: Sequence[bytes]) -> None:
    position = random.randint(0, len(copy))
    copy[position:position] = random.choice(dictionary)


def _overwrite_word(random: Random, copy: bytearray, dictionary: Sequence[bytes]) -> None:
    word = random.choice(dictionary)
    position = random.randint(0, len(copy))
    copy[position : position + len(word)] = word


def _delete(random: Random, copy: bytearray, _: Sequence[bytes]) -> None:
    start = random.randint(0, len(copy))
    del copy[start : start + random.choice((1, 2, 4, 16, 100))]


def _repeat(random: Random, copy: bytearray, _: Sequence[bytes]) -> None:
    start = random.randint(0, len(copy))
    part = copy[start : start + random.choice((1, 4, 32))]
    copy[start:start] = part * random.choice((1, 2, 50))


def _truncate(random: Random, copy: bytearray, _: Sequence[bytes]) -> None:
    del copy[random.randint(0, len(copy)) :]


def _set_integer(random: Random, copy: bytearray, _: Sequence[bytes]) -> None:
    width = random.choice((1, 2, 4, 8))
    value = random.choice(INTEGERS) & ((1 << 8 * width) - 1)
    position = random.randint(0, len(copy))
    copy[position : position + width] = value.to_bytes(width, random.choice(("little", "big")))


_CHANGES: tuple[Callable[[Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip_bit,
    _set_byte,
    _insert_word,
    _overwrite_word,
    _delete,
    _repeat,
    _truncate,
    _set_integer,
)


def any_value(random: Random, depth: int = 3) -> Any:
    """A value that JSON can hold, and sometimes one that it cannot well hold."""
    kind = random.randrange(8 if depth else 5)
    if kind == 0:
        return random.choice(INTEGERS) * random.choice((1, -1))
    if kind == 1:
        return random.choice(FLOATS)
    if kind == 2:
        return random.choice(TEXTS)
    if kind == 3:
        return random.choice((None, True, False))
    if kind == 4:
        return "".join(chr(random.randrange(32, 127)) for _ in range(random.randrange(12)))
    if kind == 5:
        return [any_value(random, depth - 1) for _ in range(random.randrange(4))]
    return {str(any_value(random, 0)): any_value(random, depth - 1) for _ in range(random.randrange(4))}


def changed(random: Random, value: Any) -> Any:
    """A JSON value with one or more of its parts removed, added or exchanged; the value given stays as it is."""
    result = json.loads(json.dumps(value))
    for _ in range(random.randint(1, 3)):
        result = _changed_once(random, result)
    return result


def _changed_once(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        choice = random.randrange(8)
        if choice == 0:
            del value[key]
        elif choice == 1:
            value[str(any_value(random, 0))] = any_value(random)
        else:
            value[key] = _changed_once(random, value[key])
        return value
    if isinstance(value, list) and value and random.random() < 0.8:
        index = random.randrange(len(value))
        value[index] = _changed_once(random, value[index])
        return value
    if isinstance(value, str) and random.random() < 0.5:
        return mutated(random, value.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    return any_value(random)
