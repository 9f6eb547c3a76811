"""Targets with faults that a campaign has to find."""

from __future__ import annotations

import os
from random import Random

import numpy as np

from test.fuzz.target import Target
from trt_perception.errors import ImageError


def good(random: Random) -> None:
    if random.random() < 0.5:
        raise ImageError("refused")


def _now(random: Random) -> bool:
    return random.randrange(3) == 0


def raises(random: Random) -> None:
    if _now(random):
        raise KeyError("planted")


def hangs(random: Random) -> None:
    planted = _now(random)
    while planted:
        pass


def dies(random: Random) -> None:
    if _now(random):
        os._exit(9)


def allocates(random: Random) -> None:
    if _now(random):
        np.ones(1 << 32, np.uint8)


TARGETS = {f.__name__: Target(f.__name__, f) for f in (good, raises, hangs, dies, allocates)}
