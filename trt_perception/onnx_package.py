"""The onnx package, needed only where a graph is read or rewritten; the one module that imports it."""

from __future__ import annotations

from typing import Any

from trt_perception.errors import BackendUnavailableError


def onnx_package(purpose: str) -> Any:
    """The module `onnx` with its checker and shape inference; raises BackendUnavailableError where it is missing."""
    try:
        import onnx
        import onnx.checker
        import onnx.shape_inference
    except ImportError as error:
        raise BackendUnavailableError(
            f"{purpose} needs the Python package onnx ({error}); install it with `pip install onnx`"
        ) from error
    return onnx
