"""Shapes and memory sizes as trtexec writes them: `images:1x3x320x320,mask:1x1` and `workspace:2048`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from trt_perception.errors import PerceptionError
from trt_perception.model_file import InputSpec

Shape: TypeAlias = tuple[int, ...]

# trtexec's word → MemoryPoolType.
MEMORY_POOLS = {
    "workspace": "WORKSPACE",
    "dlaSRAM": "DLA_MANAGED_SRAM",
    "dlaLocalDRAM": "DLA_LOCAL_DRAM",
    "dlaGlobalDRAM": "DLA_GLOBAL_DRAM",
    "tacticSharedMem": "TACTIC_SHARED_MEMORY",
}
# Without a suffix trtexec counts in MiB.
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "": 2**20}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([BKMG]?)")


@dataclass(frozen=True)
class Profile:
    """Smallest, best and largest shape of one input."""

    smallest: Shape
    best: Shape
    largest: Shape

    def __str__(self) -> str:
        return "/".join(map(shape_text, (self.smallest, self.best, self.largest)))


@dataclass(frozen=True)
class ShapeOptions:
    """What --minShapes, --optShapes and --maxShapes say, each input name → shape."""

    smallest: Mapping[str, Shape] = field(default_factory=dict)
    best: Mapping[str, Shape] = field(default_factory=dict)
    largest: Mapping[str, Shape] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.smallest or self.best or self.largest)


def shape_text(shape: Sequence[int]) -> str:
    """(1, 3, 320, 320) → `1x3x320x320`."""
    return "x".join(map(str, shape))


def parse_shapes(text: str) -> dict[str, Shape]:
    """`images:1x3x320x320,mask:1x1` → names and shapes; raises PerceptionError. A name may contain colons."""
    shapes: dict[str, Shape] = {}
    for part in filter(None, text.split(",")):
        name, _, sizes = part.rpartition(":")
        if not name or not re.fullmatch(r"\d+(x\d+)*", sizes):
            raise PerceptionError(f"shape {part!r} is not NAME:AxBxC; for example images:1x3x320x320")
        shape = tuple(int(n) for n in sizes.split("x"))
        if min(shape) < 1 or name in shapes:
            raise PerceptionError(f"shape {part!r}: sizes must be at least 1, and each input may come once")
        shapes[name] = shape
    if not shapes:
        raise PerceptionError(f"shapes {text!r} name no input; give NAME:AxBxC, for example images:1x3x320x320")
    return shapes


def parse_memory_pools(text: str) -> dict[str, int]:
    """`workspace:2048,tacticSharedMem:64K` → pool's word and bytes; raises PerceptionError."""
    pools: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        pool, _, size = part.partition(":")
        match = _SIZE.fullmatch(size)
        if pool not in MEMORY_POOLS or match is None:
            raise PerceptionError(
                f"memory pool {part!r} is not POOL:SIZE; pools are {', '.join(MEMORY_POOLS)}, sizes are MiB or end in "
                "B, K, M, G: for example workspace:2048"
            )
        pools[pool] = int(float(match[1]) * _UNITS[match[2]])
    return pools


def one_picture(network_shape: Sequence[int], spec: InputSpec | None) -> Shape | None:
    """The shape to build for where the user gave none: one picture of the model's size, or as many as the network is
    fixed to; None if the size is unknown.

    network_shape: of the input, with -1 for free sizes.
    """
    if spec is not None and len(network_shape) == 4:
        batch = network_shape[0]
        return (spec.batch_shape[0] if batch == -1 else batch, *spec.batch_shape[1:])
    return (1, *network_shape[1:]) if -1 not in network_shape[1:] else None


def require_as_fixed(name: str, network_shape: Sequence[int], options: ShapeOptions) -> None:
    """Raises PerceptionError where another shape is wished for an input that has no free size."""
    for shapes in (options.smallest, options.best, options.largest):
        if tuple(shapes.get(name, network_shape)) != tuple(network_shape):
            raise PerceptionError(
                f"input {name}: the shape {shape_text(shapes[name])} cannot be had, the network has the fixed shape "
                f"{shape_text(network_shape)}; leave it out, or export the model with free sizes"
            )


def profile_for(name: str, network_shape: Sequence[int], options: ShapeOptions, fallback: Shape | None) -> Profile:
    """The profile of an input of which some sizes are free (below 0).

    Each of min, opt and max that was not given is taken from the next one that was; fallback stands in when none
    was. Raises PerceptionError when nothing is known, when a fixed size would change, or for min > opt > max.
    """
    given = [shapes.get(name) for shapes in (options.smallest, options.best, options.largest)]
    smallest, best, largest = given
    best = best or largest or smallest or fallback
    if best is None:
        raise PerceptionError(
            f"input {name} has the shape {tuple(network_shape)} with free sizes (-1); give --minShapes, --optShapes "
            f"and --maxShapes, for example --optShapes={name}:1x3x640x640"
        )
    profile = Profile(smallest or best, best, largest or best)
    for shape in (profile.smallest, profile.best, profile.largest):
        if len(shape) != len(network_shape) or any(w not in (-1, n) for w, n in zip(network_shape, shape, strict=True)):
            raise PerceptionError(
                f"input {name}: the shape {shape_text(shape)} does not fit the network's {tuple(network_shape)}; "
                "only sizes of -1 can be chosen"
            )
    ordered = zip(profile.smallest, profile.best, profile.largest, strict=True)
    if any(not low <= n <= high for low, n, high in ordered):
        raise PerceptionError(f"input {name}: {profile} is not ordered; expected min <= opt <= max in every size")
    return profile
