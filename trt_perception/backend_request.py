"""`NAME[:DEVICE][:PRECISION]`: how a user asks for a backend, on the command line and in parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trt_perception.errors import PerceptionError

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
_DEVICE = re.compile(r"(cpu|cuda|tensorrt)")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class BackendRequest:
    """A backend that was asked for; None leaves the choice to the backend's documented default.

    device is `cpu`, `cuda`, `cuda:N` (the N-th GPU) or `tensorrt` (ONNX Runtime's provider of that name).
    """

    name: str
    device: str | None = None
    precision: str | None = None

    def __str__(self) -> str:
        return ":".join(part for part in (self.name, self.device, self.precision) if part)

    @classmethod
    def parse(cls, text: str) -> BackendRequest:
        """Reads `onnxruntime`, `onnxruntime:cpu`, `torchscript:cuda:1:fp16` or `tensorrt:int8`.

        Raises PerceptionError for anything else.
        """
        name, *rest = text.strip().split(":")
        device: str | None = None
        precision: str | None = None
        if rest and _DEVICE.fullmatch(rest[0]):
            device = rest.pop(0)
            if rest and device != "cpu" and rest[0].isdecimal():
                device = f"{device}:{rest.pop(0)}"
        if rest and rest[0] in PRECISIONS:
            precision = rest.pop(0)
        if rest or not _NAME.fullmatch(name):
            raise PerceptionError(
                f"backend {text!r} is not of the form NAME[:DEVICE][:PRECISION]; devices are cpu, cuda, cuda:N and "
                f"tensorrt, precisions are {', '.join(PRECISIONS)}; for example onnxruntime:cpu or tensorrt:fp16"
            )
        return cls(name, device, precision)
