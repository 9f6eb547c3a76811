"""One control loop's period and phase: the grid of time that inference is charged to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ControlPeriod:
    """A regular grid of control periods; period `k` is `[phase_ns + k * period_ns, phase_ns + (k + 1) * period_ns)`.

    `phase_ns` is the time of any one tick, on the clock of the inference intervals. With a learned period it should
    be a recent tick: a grid anchored far in the past moves by whole periods when the period changes by one part in
    a million.

    Raises ValueError when the period is not at least 1 ns.
    """

    period_ns: int
    phase_ns: int = 0

    def __post_init__(self) -> None:
        if self.period_ns < 1:
            raise ValueError(f"control period is {self.period_ns} ns; expected at least 1 ns")

    @classmethod
    def from_rate_hz(cls, rate_hz: float, phase_ns: int = 0) -> ControlPeriod:
        """The period of a loop that runs `rate_hz` times a second, rounded to whole nanoseconds."""
        if not 0.0 < rate_hz <= 1e9:
            raise ValueError(f"control rate is {rate_hz} Hz; expected more than 0 and at most 1e9")
        return cls(round(1e9 / rate_hz), phase_ns)

    def index_at(self, time_ns: int) -> int:
        """Index of the period that holds `time_ns`; a tick belongs to the period that it starts."""
        return (time_ns - self.phase_ns) // self.period_ns

    def start_ns(self, index: int) -> int:
        """Start of period `index`, which is also the end of the one before."""
        return self.phase_ns + index * self.period_ns
