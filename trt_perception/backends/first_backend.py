"""Which of a list of backends runs from the start: the first, or the first that opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import backend_table, create_backend
from trt_perception.backends.base import Backend
from trt_perception.errors import PerceptionError
from trt_perception.model_file import ModelFile


def open_first(
    model: ModelFile,
    backends: str | Sequence[str],
    *,
    allow_fallback: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Backend:
    """The first backend, opened; with allow_fallback the first that opens at all.

    Raises the backend's own error when only one may run, or one PerceptionError that lists why each failed.
    """
    requests = parse_requests(backends)
    strangers = sorted(set(settings or {}) - set(backend_table()))
    if strangers:
        known = ", ".join(sorted(backend_table()))
        raise PerceptionError(f"there are settings for {', '.join(strangers)}; backends are {known}")
    failures: list[PerceptionError] = []
    for request in requests if allow_fallback else requests[:1]:
        try:
            backend = create_backend(
                request, model, allow_fallback=allow_fallback, settings=(settings or {}).get(request.name)
            )
            if failures:
                backend.explain_fallback(f"runs {request} instead of {requests[0]}: {failures[0]}")
            backend.open()
        except PerceptionError as error:
            failures.append(error)
        else:
            return backend
    if len(failures) == 1:
        raise failures[0]
    raise PerceptionError("no backend can run: " + "; ".join(str(f) for f in failures)) from failures[0]


def parse_requests(backends: str | Sequence[str]) -> list[BackendRequest]:
    """Reads a list of `NAME[:DEVICE][:PRECISION]`; raises PerceptionError for an empty one."""
    requests = [BackendRequest.parse(text) for text in ([backends] if isinstance(backends, str) else backends)]
    if not requests:
        raise PerceptionError("the list of backends is empty; give at least one, for example onnxruntime:cpu")
    return requests
