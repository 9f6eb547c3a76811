"""The onnx package; the one module that imports it."""

from __future__ import annotations

from typing import Any

from trt_perception.errors import BackendUnavailableError


def import_onnx(purpose: str) -> Any:
    """The package with its checker and shape inference; raises BackendUnavailableError, which names the purpose."""
    try:
        import onnx
        import onnx.checker
        import onnx.shape_inference
    except ImportError as error:
        raise BackendUnavailableError(
            f"{purpose} needs the Python package onnx ({error}); install it with `pip install onnx`"
        ) from error
    return onnx
