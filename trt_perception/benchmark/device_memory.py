"""The most GPU memory that a backend's process held."""

from __future__ import annotations

from typing import Protocol

_MIB = 2**20


class Readings(Protocol):
    """What backends.nvml.GpuMemory tells."""

    def in_use(self) -> int:
        """Bytes that all processes together hold."""
        ...

    def of_process(self, pid: int) -> int | None:
        """Bytes that one process holds, None where that is not known."""
        ...


class PeakWatch:
    """Sampled while the process works on a command; only one process of a comparison works at a time.

    Where the driver does not know the process by its number (containers), what all GPUs hold beyond the start of the
    command counts as its own; other programs on the same GPU then count too.
    """

    def __init__(self, readings: Readings, pid: int) -> None:
        self._readings, self._pid = readings, pid
        self._peak = 0
        self._held = 0
        self._foreign = 0

    @property
    def peak_mib(self) -> float | None:
        """None for a process that never held any."""
        return self._peak / _MIB if self._peak else None

    def begin(self) -> None:
        """Before a command."""
        self._foreign = self._readings.in_use() - self._held
        self.sample()

    def sample(self) -> None:
        """Meanwhile and after it."""
        own = self._readings.of_process(self._pid)
        self._held = max(self._readings.in_use() - self._foreign, 0) if own is None else own
        self._peak = max(self._peak, self._held)
