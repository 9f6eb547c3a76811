"""Will each backend run here, and if not, what to do: every look at a library happens in a process of its own."""

from __future__ import annotations

from trt_perception.doctor.examine import BackendVerdict, Diagnosis, examine
from trt_perception.doctor.findings import Finding, Level

__all__ = ["BackendVerdict", "Diagnosis", "Finding", "Level", "examine"]
