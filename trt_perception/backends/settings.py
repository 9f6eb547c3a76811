"""A backend's settings: made from what is given, and what several backends ask of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

from trt_perception.atomic_file import require_writable
from trt_perception.backend_request import BackendRequest
from trt_perception.errors import BackendError, WriteError

_MOST_STREAMS = 16


class HasSettings(Protocol):
    """A kind of backend; see Backend."""

    name: ClassVar[str]
    Settings: ClassVar[type[Any]]


@dataclass(frozen=True)
class NoSettings:
    """For a backend with nothing to set."""


def settings_of(backend: type[HasSettings], given: Mapping[str, Any]) -> Any:
    """The backend's Settings with the given values; raises BackendError for an unknown name or a wrong type."""
    known = {entry.name: entry for entry in fields(backend.Settings)}
    for name, value in given.items():
        if name not in known:
            raise BackendError(f"{backend.name} has no setting {name!r}; it has: {', '.join(known) or 'none'}")
        default = known[name].default
        if type(value) is not type(default):
            raise BackendError(
                f"setting {name!r} of {backend.name} is {value!r}; expected {type(default).__name__}, like {default!r}"
            )
    return backend.Settings(**given)


def require_thread_count(backend: str, setting: str, value: int) -> None:
    """Raises BackendError for a negative number of threads."""
    if value < 0:
        raise BackendError(
            f"setting {setting!r} of {backend} is {value}; give a number of threads, 0 for its own choice"
        )


def require_stream_count(backend: str, value: int) -> None:
    """Raises BackendError for a number of streams that no GPU makes use of."""
    if not 1 <= value <= _MOST_STREAMS:
        raise BackendError(f"setting 'streams' of {backend} is {value}; give 1 to {_MOST_STREAMS}")


def require_writable_setting(request: BackendRequest, setting: str, file: str | Path) -> None:
    """Raises BackendError when the file that a setting names cannot be written; missing folders are made."""
    try:
        require_writable(Path(file))
    except WriteError as error:
        raise BackendError(f"{request}: setting {setting!r}: {error}") from error
