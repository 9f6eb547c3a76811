"""Which head fits a network, by its outputs' shapes and what its metadata says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trt_perception.errors import ModelFileError
from trt_perception.heads import HEADS, HeadContext
from trt_perception.types import TensorSpec

AUTO = "auto"
# Key of the metadata, text that its value holds (in lower case), and the head which that speaks for. Ultralytics
# writes both; they decide only between heads whose shapes fit.
_HINTS = (("end2end", "true", "end_to_end"), ("description", "rt-detr", "rtdetr"), ("description", "rtdetr", "rtdetr"))


@dataclass(frozen=True)
class Recognised:
    """A head's name and why it was chosen."""

    name: str
    reason: str


def recognise(outputs: Sequence[TensorSpec], context: HeadContext, metadata: Mapping[str, str]) -> Recognised:
    """The one head that fits; raises ModelFileError when none does, or more than one."""
    fitting = {name: reason for name, head in HEADS.items() if (reason := head().fits(outputs, context)) is not None}
    shapes = "; ".join(map(str, outputs)) or "no outputs"
    if len(fitting) > 1:
        for key, text, head in _HINTS:
            if head in fitting and text in metadata.get(key, "").lower():
                return Recognised(head, f"{fitting[head]}; its metadata's {key} is {metadata[key]!r}")
        options = ", ".join(f"{name} ({reason})" for name, reason in fitting.items())
        raise ModelFileError(
            f"the network's outputs ({shapes}) fit more than one head: {options}; name one as `head` in a model file"
        )
    if not fitting:
        named = f"{context.class_count} named classes" if context.class_count else "no named classes"
        raise ModelFileError(
            f"the network's outputs ({shapes}) fit no head for {context.width}x{context.height} and {named}; correct "
            f"`labels` or name the head in a model file ({', '.join(HEADS)}), or export the model in one of the "
            "layouts that docs/models.md lists"
        )
    ((name, reason),) = fitting.items()
    return Recognised(name, f"{reason} ({shapes})")
