"""The table of heads: a new one is a file and a line here."""

from __future__ import annotations

from trt_perception.errors import ModelFileError
from trt_perception.heads.base import Candidates, Head
from trt_perception.heads.yolov8 import Yolov8Head

__all__ = ["HEADS", "Candidates", "Head", "head_for"]

HEADS: dict[str, type[Head]] = {
    "yolov8": Yolov8Head,
}


def head_for(name: str) -> Head:
    """The head of that name; raises ModelFileError for an unknown one."""
    if name not in HEADS:
        raise ModelFileError(f"head {name!r} is not known; use one of {', '.join(HEADS)}")
    return HEADS[name]()
