"""ONNX Runtime itself: importing it, the libraries that it needs on a GPU, and what it says in its own words."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from typing import Any

from trt_perception.errors import BackendUnavailableError
from trt_perception.telemetry import decline_telemetry
from trt_perception.types import TensorSpec

# ONNX's element types as a session names them, and NumPy's names for the same.
DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}

_ERRORS = 3  # of the levels of its log


def onnxruntime_part(part: str = "") -> Any:
    """onnxruntime, or one of its modules (`quantization`); raises BackendUnavailableError that says what to install."""
    decline_telemetry()
    try:
        import onnxruntime

        return importlib.import_module(f"onnxruntime.{part}") if part else onnxruntime
    except ImportError as error:
        extra = " onnx" if part else ""
        raise BackendUnavailableError(
            f"onnxruntime{'.' if part else ''}{part} cannot be imported ({error}); install it with "
            f"`pip install onnxruntime{extra}`, for a GPU `pip install onnxruntime-gpu{extra}`"
        ) from error


def load_cuda_libraries(ort: Any) -> None:
    """Loads CUDA and cuDNN from NVIDIA's Python packages, where they are installed; nothing else finds them there.

    Whether the provider then loads is read back from the session, so what this function of onnxruntime's (1.21 and
    newer) prints about what it does not find is left out. So are the warnings that it writes to standard error past
    every logger, some for each session (1.31: "No registered plugin EP device found").
    """
    ort.set_default_logger_severity(_ERRORS)
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def version_of(ort: Any) -> tuple[int, ...]:
    """(1, 31) of `1.31.0`."""
    return tuple(int(number) for number in re.findall(r"\d+", ort.__version__)[:2])


def spec_of(entry: Any) -> TensorSpec:
    """A session's input or output; a free axis is None."""
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in entry.shape)
    return TensorSpec(entry.name, DTYPES.get(entry.type, entry.type), shape)


def first_line(error: BaseException) -> str:
    """What of an error's many lines says the most."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
