"""Learns a control loop's period from the arrivals of any message that it sends or takes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_perception.control_budget.control_period import ControlPeriod

FloatArray = NDArray[np.float64]

# A window of arrivals short enough to notice a new rate within 2 s, with a minimum number for slow loops and a
# maximum that bounds memory and the cost of an estimate.
_WINDOW_NS = 1_500_000_000
_MIN_ARRIVALS = 16
_MAX_ARRIVALS = 128
# Arrivals without any rhythm reach R at one trial rate with probability exp(-n R^2) (Rayleigh). With n R^2 = 12 they
# pass at any of the some 150 independent rates about once in 1000: 16 arrivals need R = 0.87, 100 need 0.35. 1 ms of
# jitter leaves 50 Hz at 0.95 and 200 Hz at 0.45.
_MIN_N_R_SQUARED = 12.0
# Rates tried, relative to the mean rate of arrivals: lost ticks make the mean rate lower than the true one, a second
# publisher on the topic makes it twice as high; at twice the true rate and above any regular arrivals look regular
# again. Bursts do not change the mean rate: they move arrivals, not their number.
_LOWEST_RATE, _HIGHEST_RATE = 0.45, 1.9
_TRIALS_PER_PEAK = 4
# No sign of life for this long, or for this many periods if that is longer, and nothing is known any more.
_SILENCE_NS = 1_000_000_000
_SILENCE_PERIODS = 10


@dataclass(frozen=True)
class LearnedPeriod:
    """A control period read from arrivals.

    `period.phase_ns` is the expected arrival nearest to the newest message: the loop's tick as seen from here,
    transport included. `jitter_p99_ns` is the nearest-rank p99 of the distance of the arrivals from the nearest
    expected one. `regularity` (0-1) is 1 for arrivals on an exact grid; `arrival_count` is how many were looked at.
    """

    period: ControlPeriod
    jitter_p99_ns: int
    regularity: float
    arrival_count: int


class PeriodLearner:
    """Estimates period, phase and jitter from arrival times (integer ns, any steady clock).

    The rate is where the arrivals, wrapped around a circle once per period, point the same way most (the Rayleigh
    periodogram, R = |mean of exp(2 pi i f t)|): lost ticks leave R as it is, bursts and late arrivals lower it a
    little, and neither can shift the peak, as they would shift a mean or a median of intervals. A robust straight
    line through the ticks then gives the period to a fraction of the jitter.
    """

    def __init__(self) -> None:
        self._arrivals_ns: deque[int] = deque(maxlen=_MAX_ARRIVALS)

    def add(self, arrival_ns: int) -> None:
        """Takes the arrival time of one message; one before the newest restarts the learning (a clock set back)."""
        if self._arrivals_ns and arrival_ns < self._arrivals_ns[-1]:
            self._arrivals_ns.clear()
        self._arrivals_ns.append(arrival_ns)
        while len(self._arrivals_ns) > _MIN_ARRIVALS and self._arrivals_ns[0] < arrival_ns - _WINDOW_NS:
            self._arrivals_ns.popleft()

    def estimate(self, now_ns: int) -> LearnedPeriod | None:
        """What is known at `now_ns`; None while there are too few arrivals, no rhythm in them, or they have ceased."""
        if len(self._arrivals_ns) < _MIN_ARRIVALS:
            return None
        newest_ns = self._arrivals_ns[-1]
        times_s = np.array([arrival_ns - newest_ns for arrival_ns in self._arrivals_ns], dtype=np.float64) * 1e-9
        span_s = -float(times_s[0])
        if span_s <= 0.0:
            return None
        rate_hz = _most_regular_rate_hz(times_s, (len(times_s) - 1) / span_s)
        period_s, tick_s = _fit_ticks(times_s, rate_hz)
        regularity = float(_regularity(times_s, np.array([1.0 / period_s]))[0])
        if len(times_s) * regularity**2 < _MIN_N_R_SQUARED:
            return None
        if now_ns - newest_ns > max(_SILENCE_NS, _SILENCE_PERIODS * period_s * 1e9):
            return None
        off_s = np.sort(np.abs(times_s - tick_s - period_s * np.round((times_s - tick_s) / period_s)))
        return LearnedPeriod(
            period=ControlPeriod(max(1, round(period_s * 1e9)), newest_ns + round(tick_s * 1e9)),
            jitter_p99_ns=round(float(off_s[-(-99 * len(off_s) // 100) - 1]) * 1e9),
            regularity=regularity,
            arrival_count=len(times_s),
        )


def _regularity(times_s: FloatArray, rates_hz: FloatArray) -> FloatArray:
    """Rayleigh's R (0-1) of arrivals `times_s`, shape (n,), at each of `rates_hz`, shape (m,); returns shape (m,)."""
    regularity: FloatArray = np.abs(np.exp(2j * np.pi * np.outer(rates_hz, times_s)).mean(axis=1))
    return regularity


def _most_regular_rate_hz(times_s: FloatArray, mean_rate_hz: float) -> float:
    """The rate around `mean_rate_hz` at which the arrivals `times_s`, shape (n,), are most regular."""
    peak_width_hz = 1.0 / float(times_s[-1] - times_s[0])
    step_hz = peak_width_hz / _TRIALS_PER_PEAK
    rates_hz = np.arange(_LOWEST_RATE * mean_rate_hz, _HIGHEST_RATE * mean_rate_hz, step_hz)
    return float(rates_hz[np.argmax(_regularity(times_s, rates_hz))])


def _fit_ticks(times_s: FloatArray, rate_hz: float) -> tuple[float, float]:
    """Period (s) and the tick nearest to time 0 (s) of arrivals `times_s`, shape (n,), that come at about `rate_hz`.

    Numbers each arrival by the nearest tick and draws a straight line through those that are not outliers, twice.
    """
    period_s = 1.0 / rate_hz
    tick_s = float(np.angle(np.exp(2j * np.pi * rate_hz * times_s).mean())) / (2 * np.pi * rate_hz)
    for _ in range(2):
        numbers = np.round((times_s - tick_s) / period_s)
        off_s = times_s - tick_s - period_s * numbers
        # 4 times the median distance is 2.7 standard deviations of normal jitter: only what is no jitter is left out.
        kept = np.abs(off_s) <= max(4.0 * float(np.median(np.abs(off_s))), 0.01 * period_s)
        if np.ptp(numbers[kept]) == 0.0:
            break
        slope_s, tick_s = (float(value) for value in np.polyfit(numbers[kept], times_s[kept], 1))
        period_s = slope_s
    return period_s, tick_s
