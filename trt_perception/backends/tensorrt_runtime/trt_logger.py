"""TensorRT's messages go to Python's logging, and to whoever collects them, because its calls return only None."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LOG = logging.getLogger("trt_perception.tensorrt")

_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.DEBUG,
}
_KEPT = 50
_collecting: list[Messages] = []
_collecting_lock = threading.Lock()


class Messages:
    """What TensorRT said while somebody collected: its errors and warnings, in order."""

    def __init__(self, listener: Callable[[str], None] | None) -> None:
        self._listener = listener
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def take(self, level: int, text: str) -> None:
        """Files one message of a level of Python's logging."""
        kept = {logging.ERROR: self.errors, logging.WARNING: self.warnings}.get(level)
        if kept is not None and len(kept) < _KEPT:
            kept.append(text)
        if self._listener is not None:
            self._listener(text)

    def summary(self) -> str:
        """The errors in one line, the warnings where there are none; never empty."""
        return "; ".join(dict.fromkeys(self.errors or self.warnings)) or "TensorRT gave no reason"


@contextmanager
def collect(listener: Callable[[str], None] | None = None) -> Iterator[Messages]:
    """Gathers what is said inside the block, also by TensorRT's own threads; the listener gets every message."""
    messages = Messages(listener)
    with _collecting_lock:
        _collecting.append(messages)
    try:
        yield messages
    finally:
        with _collecting_lock:
            _collecting.remove(messages)


def receive(severity: str, text: str) -> None:
    """Passes one message on; severity is the library's own name for it."""
    level = _LEVELS.get(severity, logging.ERROR)
    # Errors are raised by whoever collects them, so they must not appear a second time as log errors.
    LOG.log(min(level, logging.WARNING) if _collecting else level, "%s", text)
    with _collecting_lock:
        listening = list(_collecting)
    for messages in listening:
        messages.take(level, text)


@functools.cache
def process_logger(library: Any) -> Any:
    """The ILogger of that TensorRT module: one for the process, since TensorRT keeps the first that it is given."""

    base: Any = library.ILogger

    class ProcessLogger(base):
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            receive(severity.name, msg)

    return ProcessLogger()
