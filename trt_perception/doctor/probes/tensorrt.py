"""One library of TensorRT (full, lean or dispatch): version, the CUDA it was built for, and whether it starts."""

from __future__ import annotations

import importlib
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level, missing
from trt_perception.doctor.probes.distributions import import_facts, installed


def look(argument: str) -> dict[str, Any]:
    """argument: the module, of which `tensorrt` is the one that can build engines."""
    # Before the import: where that aborts, the versions stay unknown otherwise.
    name = argument.replace("_", "-")
    facts = {
        "module": argument,
        "distributions": installed(rf"{name}(-cu\d+)?(-libs|-bindings)?"),
        **import_facts(argument),
    }
    if "version" not in facts:
        return facts
    trt = importlib.import_module(argument)
    try:
        logger = trt.Logger(trt.Logger.WARNING)
        facts["runtime"] = trt.Runtime(logger) is not None
        facts["can_build"] = hasattr(trt, "Builder") and trt.Builder(logger) is not None
    except (RuntimeError, TypeError, AttributeError) as error:  # a constructor that returned nothing is a TypeError
        facts["start_error"] = f"{type(error).__name__}: {error}"
    return facts


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Without a driver it cannot start, which is the driver's fault."""
    module = str(facts["module"])
    major = str(driver.get("newest_cuda", "12")).split(".")[0]
    install = f"`pip install {module.replace('_', '-')}-cu{major}`"
    if (problem := missing(facts, install)) is not None:
        return problem
    built = sorted({part for name in facts["distributions"] for part in name.split("-") if part.startswith("cu")})
    words = f"{facts['version']}, built for {', '.join(built).replace('cu', 'CUDA ') or 'a CUDA that it does not name'}"
    if "start_error" in facts or not facts.get("runtime"):
        if not driver.get("newest_cuda"):
            return Judgement(
                Level.WARNING, f"{words}; it cannot start without an NVIDIA driver", "see the driver's line"
            )
        return Judgement(Level.FAILED, f"{words}; it does not start: {facts.get('start_error', 'no runtime')}", install)
    return Judgement(Level.OK, f"{words}, {'builds and runs' if facts['can_build'] else 'runs'} engines")
