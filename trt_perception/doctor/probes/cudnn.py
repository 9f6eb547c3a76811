"""cuDNN: which versions the loader finds, and which come as Python packages."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level
from trt_perception.doctor.probes.distributions import installed

_NAMES = ("libcudnn.so.9", "libcudnn.so.8")


def look(argument: str) -> dict[str, Any]:
    """`found`: library name or path → version, as cudnnGetVersion says it (90100 is 9.1.0)."""
    found = {}
    for name in [*_NAMES, *_packaged()]:
        try:
            library = ctypes.CDLL(name)
            library.cudnnGetVersion.restype = ctypes.c_size_t
            found[name] = int(library.cudnnGetVersion())
        except (OSError, AttributeError):
            continue
    return {"found": found, "distributions": installed(r"nvidia-cudnn(-cu\d+)?")}


def _packaged() -> list[str]:
    try:
        spec = importlib.util.find_spec("nvidia.cudnn")
    except ModuleNotFoundError:
        return []
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    return [str(path) for folder in folders for path in sorted((folder / "lib").glob("libcudnn.so.*"))]


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Matters only with a GPU."""
    found: dict[str, int] = facts["found"]
    if found:
        return Judgement(Level.OK, ", ".join(f"{name} ({version})" for name, version in found.items()))
    major = str(driver.get("newest_cuda", "12")).split(".")[0]
    level = Level.WARNING if driver.get("gpus") else Level.ABSENT
    return Judgement(level, "not found", f"if you want ONNX Runtime on a GPU: `pip install nvidia-cudnn-cu{major}`")
