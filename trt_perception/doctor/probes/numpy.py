"""NumPy."""

from __future__ import annotations

from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level, missing
from trt_perception.doctor.probes.distributions import import_facts

_INSTALL = "`pip install numpy`"


def look(argument: str) -> dict[str, Any]:
    """Its version."""
    return import_facts("numpy")


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Nothing runs without it."""
    if missing(facts, _INSTALL) is not None:
        return Judgement(Level.FAILED, f"cannot be imported: {facts['import_error']}", _INSTALL)
    return Judgement(Level.OK, str(facts["version"]))
