"""Which installed distributions a name has, read without importing anything."""

from __future__ import annotations

import importlib
import importlib.util
import re
from importlib import metadata
from typing import Any


def installed(pattern: str) -> dict[str, str]:
    """Name → version of every installed distribution whose name (with _ as -) matches the pattern as a whole."""
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if re.fullmatch(pattern, name):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def import_facts(module: str) -> dict[str, Any]:
    """`installed`, and `import_error` or `version`, of a module that is imported here and now."""
    facts: dict[str, Any] = {"installed": _is_there(module)}
    try:
        facts["version"] = str(getattr(importlib.import_module(module), "__version__", "unknown"))
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        facts["import_error"] = f"{type(error).__name__}: {error}"
    return facts


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError as error:  # of its parent: missing, or there and broken
        return error.name != module.partition(".")[0]
