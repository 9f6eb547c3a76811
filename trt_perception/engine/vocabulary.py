"""An engine's options in the words of the installed TensorRT; what it lacks is said before anything is built."""

from __future__ import annotations

from typing import Any

from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.engine.options import BuildOptions, parse_tactic_sources
from trt_perception.engine.shapes import MEMORY_POOLS
from trt_perception.errors import PerceptionError


def require_all(trt: TensorRt, options: BuildOptions) -> None:
    """Raises PerceptionError for an option that this TensorRT has no word for."""
    portability_flags(trt, options)
    hardware_level(trt, options)
    memory_limits(trt, options)
    tactic_sources(trt, options, 0)
    if options.optimization_level is not None:
        _required(trt, "--builderOptimizationLevel", trt.dialect.optimization_level or None)


def portability_flags(trt: TensorRt, options: BuildOptions) -> list[str]:
    """Names in BuilderFlag for --versionCompatible and --excludeLeanRuntime."""
    flags: list[str] = []
    if options.version_compatible:
        flags.append(_required(trt, "--versionCompatible", trt.dialect.version_compatible))
    if options.exclude_lean_runtime:
        flags.append(_required(trt, "--excludeLeanRuntime", trt.dialect.exclude_lean))
    return flags


def hardware_level(trt: TensorRt, options: BuildOptions) -> Any:
    """The HardwareCompatibilityLevel, None where the engine is for this GPU alone."""
    if options.hardware_compatibility_level == "none":
        return None
    option = "--hardwareCompatibilityLevel"
    name = dict(trt.dialect.hardware_compatibility).get(options.hardware_compatibility_level)
    known = f"={options.hardware_compatibility_level}"
    return _member(trt, option, "HardwareCompatibilityLevel", _required(trt, option + known, name))


def memory_limits(trt: TensorRt, options: BuildOptions) -> list[tuple[Any, int]]:
    """MemoryPoolType and bytes of each pool."""
    return [
        (_member(trt, "--memPoolSize", "MemoryPoolType", MEMORY_POOLS[pool]), size)
        for pool, size in options.memory_pools.items()
    ]


def tactic_sources(trt: TensorRt, options: BuildOptions, mask: int) -> int:
    """The mask of TacticSource bits, changed as --tacticSources says."""
    for wanted, name in parse_tactic_sources(options.tactic_sources):
        bit = 1 << int(_member(trt, "--tacticSources", "TacticSource", name))
        mask = mask | bit if wanted else mask & ~bit
    return mask


def _required(trt: TensorRt, option: str, word: Any) -> Any:
    if word is None:
        raise PerceptionError(f"{option} cannot be had with {trt}; leave it out or install another version")
    return word


def _member(trt: TensorRt, option: str, enumeration: str, name: str) -> Any:
    members = getattr(trt.module, enumeration)
    if not hasattr(members, name):
        known = ", ".join(sorted(members.__members__))
        raise PerceptionError(f"{option}: {trt} has no {name}; it has {known}")
    return getattr(members, name)
