"""A backend of known behaviour, found through its entry point as another package's would be.

For tests of what is around a backend: timing, drops, failures. It says nothing about whether a real one works.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from trt_perception.backends.base import Backend, BackendInfo, RawOutputs
from trt_perception.errors import BackendError, BackendUnavailableError
from trt_perception.types import AnyArray, TensorSpec

CLASSES = 10
SIDE_PX = 320


@dataclass(frozen=True)
class FakeSettings:
    """busy_ms: how long each inference takes. fail_from: inferences from this one on fail (0: never).
    refuse_to_open: open() fails. open_s: how long it takes. broken_while: while there is a file of this name,
    inferences fail and so does open().
    hang_from: inferences from this one on do not return (0: never), and keep the interpreter lock if hang_locked.
    output, from inference output_from on: finite, not_a_number, infinite, shape for a shape that no head expects, or
    one_of_a_batch for what a graph gives that was exported for one picture.
    """

    busy_ms: float = 0.0
    fail_from: int = 0
    refuse_to_open: bool = False
    open_s: float = 0.0
    broken_while: str = ""
    hang_from: int = 0
    hang_locked: bool = False
    output: str = "finite"
    output_from: int = 0


class FakeBackend(Backend):
    name: ClassVar[str] = "fake"
    artifact_kind: ClassVar[str] = "onnx"
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    Settings = FakeSettings

    _calls = 0

    def _open(self) -> BackendInfo:
        if self.settings.refuse_to_open:
            raise BackendUnavailableError("fake: told not to open; set fake.refuse_to_open to false")
        self._require_whole()
        time.sleep(self.settings.open_s)
        self._calls = 0
        return BackendInfo(
            backend=self.name,
            requested=str(self.request),
            device="cpu",
            device_name="nothing",
            provider="fake",
            precision="fp32",
            library="fake 1.0",
            inputs=(TensorSpec("images", "float32", (None, 3, SIDE_PX, SIDE_PX)),),
            outputs=(TensorSpec("output0", "float32", (None, 4 + CLASSES, 1)),),
            metadata={},
        )

    def _infer(self, batch: AnyArray) -> RawOutputs:
        start_ns = time.monotonic_ns()
        self._calls += 1
        if self.settings.fail_from and self._calls >= self.settings.fail_from:
            raise BackendError(f"fake: inference {self._calls} fails, as told")
        self._require_whole()
        if self.settings.hang_from and self._calls >= self.settings.hang_from:
            (ctypes.PyDLL if self.settings.hang_locked else ctypes.CDLL)(None).sleep(3600)
        end_ns = start_ns + round(self.settings.busy_ms * 1e6)
        # Sleeps most of it, so that the other threads of the node get their turn as with a real library.
        time.sleep(max(end_ns - time.monotonic_ns() - 1_000_000, 0) / 1e9)
        while time.monotonic_ns() < end_ns:
            pass
        # One box in the middle of the network's input, of class 7.
        output = np.zeros((len(batch), 4 + CLASSES, 1), np.float32)
        output[:, :4, 0] = (SIDE_PX / 2, SIDE_PX / 2, 64, 32)
        output[:, 4 + 7, 0] = 0.9
        kind = self.settings.output if self._calls >= self.settings.output_from else "finite"
        if kind in ("not_a_number", "infinite"):
            output[:] = np.nan if kind == "not_a_number" else np.inf
        if kind == "shape":
            output = output[0]
        if kind == "one_of_a_batch":
            output = output[:1]
        return RawOutputs((output,), start_ns, time.monotonic_ns() - start_ns)

    def _require_whole(self) -> None:
        if self.settings.broken_while and Path(self.settings.broken_while).exists():
            raise BackendError(f"fake: broken while there is {self.settings.broken_while}")

    def _close(self) -> None:
        self._calls = 0
