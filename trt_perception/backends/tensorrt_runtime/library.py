"""Finds the installed TensorRT: the full library, else the lean or the dispatch runtime. The only importer of it."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from trt_perception.backends.tensorrt_runtime.faults import explain
from trt_perception.backends.tensorrt_runtime.probe import require_runtime_starts
from trt_perception.backends.tensorrt_runtime.trt_logger import process_logger
from trt_perception.backends.tensorrt_runtime.versions import Dialect, dialect_for
from trt_perception.errors import BackendError, BackendUnavailableError

# Flavour → the modules that hold it. The second name is the wheel of bindings alone, which the first one wraps.
FLAVOURS: dict[str, tuple[str, ...]] = {
    "full": ("tensorrt", "tensorrt_bindings"),
    "lean": ("tensorrt_lean", "tensorrt_lean_bindings"),
    "dispatch": ("tensorrt_dispatch", "tensorrt_dispatch_bindings"),
}
AUTO = "auto"


@dataclass(frozen=True)
class TensorRt:
    """A loaded TensorRT. flavour: full, lean or dispatch; version: such as (8, 6, 0); dialect: how it is spoken to."""

    module: Any
    flavour: str
    version: tuple[int, ...]
    dialect: Dialect

    def __str__(self) -> str:
        kind = "" if self.flavour == "full" else f" {self.flavour} runtime"
        return f"TensorRT {self.version_text}{kind}"

    @property
    def version_text(self) -> str:
        """The version as the library writes it, such as `8.6.0`."""
        return ".".join(map(str, self.version))


def load_tensorrt(flavour: str = AUTO) -> TensorRt:
    """The TensorRT of that flavour, or with `auto` the first that is installed.

    Raises BackendUnavailableError that names what was tried when there is none, and BackendError for a version that
    is not supported.
    """
    if flavour != AUTO and flavour not in FLAVOURS:
        raise BackendError(f"setting 'runtime' of tensorrt is {flavour!r}; expected {AUTO}, {', '.join(FLAVOURS)}")
    reasons: list[str] = []
    for candidate in FLAVOURS if flavour == AUTO else (flavour,):
        for name in FLAVOURS[candidate]:
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                reasons.append(f"no module {error.name}")
            # FileNotFoundError, RuntimeError: raised by TensorRT's own packages when they do not find their libraries.
            except (ImportError, OSError, RuntimeError) as error:
                reasons.append(f"{name}: {explain(str(error))}")
            else:
                return _loaded(module, candidate)
    raise BackendUnavailableError(
        f"TensorRT cannot be loaded ({'; '.join(reasons)}); install it with `pip install tensorrt` (or tensorrt-cu12, "
        "tensorrt-cu13 for the CUDA that nvidia-smi shows), on a Jetson with the JetPack packages python3-libnvinfer"
    )


def load_plugins(library: Any) -> None:
    """Registers TensorRT's own plugins, which its parser and its engines look for; the lean runtimes have none."""
    if hasattr(library, "init_libnvinfer_plugins"):
        library.init_libnvinfer_plugins(process_logger(library), "")


def _loaded(module: Any, flavour: str) -> TensorRt:
    version = parse_version(str(module.__version__))
    dialect = dialect_for(version)
    if dialect.probe_runtime:
        require_runtime_starts(module.__name__)
    return TensorRt(module, flavour, version, dialect)


def parse_version(text: str) -> tuple[int, ...]:
    """`10.16.1.11` or `8.6.0.post1` as numbers; raises BackendError when there are fewer than two."""
    match = re.match(r"\d+(\.\d+)+", text)
    if match is None:
        raise BackendError(f"TensorRT says that its version is {text!r}; expected numbers such as 8.6.0")
    return tuple(int(part) for part in match.group().split("."))
