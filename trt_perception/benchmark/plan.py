"""What a comparison is to do."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from trt_perception.control_budget import BudgetThresholds


@dataclass(frozen=True)
class Candidate:
    """One backend of a comparison. request: `NAME[:DEVICE][:PRECISION]`; python: the interpreter of its process."""

    request: str
    python: str = sys.executable


@dataclass(frozen=True)
class BenchPlan:
    """How a comparison goes.

    model: as `--model`; warm_up_frames: before the first measured one; iterations: measured frames of each backend;
    runs_per_block: measured frames that a backend does in its turn; settle_frames: frames that begin each turn and are
    not measured, because the caches and clocks are those that the backend before left behind; reference: index of the
    candidate that the others are compared with; batch_sizes: run beside, inference alone; time_limit_s: for one answer
    of a backend's process; max_map_drop: None does not check.
    """

    model: str
    candidates: tuple[Candidate, ...]
    control_rate_hz: float = 50.0
    warm_up_frames: int = 20
    iterations: int = 100
    runs_per_block: int = 10
    settle_frames: int = 2
    reference: int = 0
    batch_sizes: tuple[int, ...] = ()
    time_limit_s: float = 300.0
    max_map_drop: float | None = None
    thresholds: BudgetThresholds = field(default_factory=BudgetThresholds)

    @property
    def period_ms(self) -> float:
        """The control period."""
        return 1000.0 / self.control_rate_hz
