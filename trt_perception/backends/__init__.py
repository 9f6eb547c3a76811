"""The table of backends: a new one is a file and a line here, or an entry point of another package."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.base import Backend
from trt_perception.errors import BackendError
from trt_perception.model_file import ModelFile
from trt_perception.trust import Trust

ENTRY_POINT_GROUP = "trt_perception.backends"

# name → "module:class". The modules import their heavy library inside open(), so reading the table costs nothing.
BACKENDS: dict[str, str] = {
    "onnxruntime": "trt_perception.backends.onnxruntime_backend:OnnxRuntimeBackend",
    "tensorrt": "trt_perception.backends.tensorrt_backend:TensorRtBackend",
    "torchscript": "trt_perception.backends.torchscript_backend:TorchScriptBackend",
}


def backend_table() -> dict[str, str]:
    """Every backend by name: those of this package, then those that other packages register as entry points."""
    others = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**others, **BACKENDS}


def backend_class(name: str) -> type[Backend]:
    """The class behind a name; raises BackendError for an unknown one."""
    table = backend_table()
    if name not in table:
        raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(sorted(table))}")
    module, _, attribute = table[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise BackendError(f"backend {name!r} is registered as {table[name]}, which is not a Backend class")
    return found


def create_backend(
    request: BackendRequest,
    model: ModelFile,
    *,
    allow_fallback: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Backend:
    """A backend for that model, not opened yet; verifies the artifact's hash where the model file gives one.

    Raises BackendError for an unknown name, device, precision or setting and ModelFileError for the artifact.
    """
    chosen = backend_class(request.name)
    kind = chosen.choose_artifact(model.artifacts)
    artifact = model.artifact(kind)
    artifact.verify(kind)
    backend = chosen(request, artifact.path, allow_fallback=allow_fallback, settings=settings)
    backend.model = model
    return backend


def require_trusted_paths(settings: Mapping[str, Mapping[str, Any]], trust: Trust) -> None:
    """Raises ModelFileError for a setting that names a file or folder where none may be read or written.

    settings: backend → its settings, as for Detector.open.
    """
    for name, values in settings.items():
        for setting in backend_class(name).path_settings:
            if values.get(setting):
                trust.checked(Path(values[setting]), f"{name}.{setting}")
