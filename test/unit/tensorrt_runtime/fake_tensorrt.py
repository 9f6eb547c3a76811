"""A stand-in for the tensorrt module, with just what the code under test touches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.backends.tensorrt_runtime.versions import dialect_for


class FakeLogger:
    """ILogger: its subclasses must call this constructor."""

    def __init__(self) -> None:
        self.constructed = True


def fake_tensorrt(version: tuple[int, ...] = (8, 6, 0), **names: Any) -> TensorRt:
    """A TensorRt of that version whose module has the names given."""
    module = SimpleNamespace(__version__=".".join(map(str, version)), ILogger=FakeLogger, **names)
    return TensorRt(module, "full", version, dialect_for(version))
