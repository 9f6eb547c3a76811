"""What a fuzz target is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from trt_perception.errors import PerceptionError

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Target:
    """One entrance for input that nobody vouches for.

    run: makes one case from random numbers and gives it to the code; raising PerceptionError is the right answer to
    bad input, anything else is a finding. weight: its share of the cases, relative to the others'.
    """

    name: str
    run: Callable[[Random], None]
    weight: float = 1.0

    def run_case(self, index: int) -> bool:
        """Runs case number `index`, the same one each time; returns whether the input was accepted."""
        try:
            self.run(Random(f"{self.name}:{index}"))
        except PerceptionError as error:
            assert str(error), "an error without a message"
            return False
        return True


@cache
def folder() -> Path:
    """A folder for this process's files, in memory where there is such a place."""
    place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    kept.append(tempfile.TemporaryDirectory(prefix="trt_perception_fuzz_", dir=place))
    return Path(kept[0].name)


kept: list[tempfile.TemporaryDirectory[str]] = []


def file(name: str, content: bytes) -> Path:
    """A file of that name with that content."""
    path = folder() / name
    path.write_bytes(content)
    return path
