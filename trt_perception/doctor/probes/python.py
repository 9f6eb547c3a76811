"""The interpreter: version, environment, pip."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level

OLDEST = (3, 10)


def look(argument: str) -> dict[str, Any]:
    """Version, path, environment, and whether pip and Poetry are there."""
    return {
        "version": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "environment": sys.prefix if sys.prefix != sys.base_prefix else None,
        "has_pip": importlib.util.find_spec("pip") is not None,
        "is_poetry": "POETRY_ACTIVE" in os.environ or "pypoetry" in sys.prefix,
    }


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Too old fails; Poetry without pip is a warning."""
    words = f"{facts['version']} ({facts['executable']})"
    version = tuple(int(part) for part in str(facts["version"]).split(".")[:2])
    if version < OLDEST:
        return Judgement(Level.FAILED, words, "use Python 3.10 or newer")
    if facts["is_poetry"] and not facts["has_pip"]:
        return Judgement(
            Level.WARNING,
            f"{words}, a Poetry environment without pip: packages that fetch libraries while they are installed "
            "(TensorRT 8.6, 10) fail there",
            "`poetry run python -m ensurepip --upgrade`, then `poetry run python -m pip install tensorrt`",
        )
    return Judgement(Level.OK, words)
