"""The whole budget monitor but for its messages: latency figures and control arrivals in, reports out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trt_perception.control_budget.control_period import ControlPeriod
from trt_perception.control_budget.figures import BudgetFigures
from trt_perception.control_budget.inference_interval import inference_interval_ns
from trt_perception.control_budget.period_learner import LearnedPeriod, PeriodLearner
from trt_perception.control_budget.united import UnitedBudget, UnitedReport
from trt_perception.control_budget.verdict import SECOND_NS, BudgetThresholds

# Longer than the time between two /diagnostics messages, so that what happens between them is seen.
_PROBLEM_STANDS_NS = 5 * SECOND_NS


@dataclass(frozen=True)
class MonitorReport:
    """A report, where its control period comes from, and what was wrong with what came in within the last 5 s.

    `learned` is None while the period is the given one. `problems` are sentences that say what to do.
    """

    united: UnitedReport
    learned: LearnedPeriod | None
    problems: tuple[str, ...]


class BudgetMonitor:
    """Unites what the detectors report with the control period, given or learned.

    All times are integer ns on one clock; every call says the time.
    """

    def __init__(
        self,
        topics: Sequence[str],
        rate_hz: float,
        *,
        learns: bool = False,
        thresholds: BudgetThresholds | None = None,
        window_ns: int = 10 * SECOND_NS,
        lateness_ns: int = SECOND_NS,
    ) -> None:
        """`rate_hz`: of the control loop; with `learns` only until arrivals show another. The rest: `UnitedBudget`.

        Raises ValueError that says which setting is wrong.
        """
        self._given = ControlPeriod.from_rate_hz(rate_hz)
        self._budget = UnitedBudget(
            topics, self._given, thresholds=thresholds, window_ns=window_ns, lateness_ns=lateness_ns
        )
        self._window_ns = window_ns
        self._learner = PeriodLearner() if learns else None
        self._problems: dict[str, tuple[str, int]] = {}
        self._discarded_before = 0

    def set_rate_hz(self, rate_hz: float) -> None:
        """Changes the given control rate; raises ValueError when the window does not hold one period of it."""
        given = ControlPeriod.from_rate_hz(rate_hz)
        self._budget.set_period(given)
        self._given = given

    def set_thresholds(self, thresholds: BudgetThresholds) -> None:
        """Changes where the levels begin."""
        self._budget.set_thresholds(thresholds)

    def add_latency(self, topic: str, stamp_ns: int, figures_ms: Mapping[str, float], now_ns: int) -> bool:
        """Takes one latency message's values; returns whether they were accepted; what is wrong is reported."""
        try:
            start_ns, end_ns = inference_interval_ns(stamp_ns, figures_ms)
        except ValueError as error:
            self._problems[topic] = (f"{topic}: {error}", now_ns)
            return False
        return self._budget.add(topic, start_ns, end_ns, now_ns)

    def add_control_arrival(self, arrival_ns: int) -> None:
        """Takes the arrival of one message of the control topic; ignored unless the period is to be learned."""
        if self._learner is not None:
            self._learner.add(arrival_ns)

    def shares(self, now_ns: int) -> list[tuple[int, float]]:
        """Start (ns) and busy share (0-1) of every complete period of the window, of all detectors together."""
        return self._budget.shares(now_ns)

    def report(self, now_ns: int) -> MonitorReport:
        """The report at `now_ns`; each takes one step of the verdict's hysteresis."""
        learned = None if self._learner is None else self._learner.estimate(now_ns)
        if learned is not None and learned.period.period_ns > self._window_ns:
            learned = None
        self._budget.set_period(self._given if learned is None else learned.period)
        if self._learner is not None and learned is None:
            sentence = (
                "the control topic's period is not known (too few messages, or no rhythm): "
                f"{self._given.period_ns / 1e6:g} ms from control_rate_hz is used"
            )
            self._problems["period"] = (sentence, now_ns)
        else:
            self._problems.pop("period", None)
        united = self._budget.report(now_ns)
        self._note_discarded(united.total.figures, now_ns)
        standing = {what: entry for what, entry in self._problems.items() if now_ns - entry[1] < _PROBLEM_STANDS_NS}
        self._problems = standing
        return MonitorReport(united, learned, tuple(sentence for sentence, _ in standing.values()))

    def _note_discarded(self, figures: BudgetFigures, now_ns: int) -> None:
        discarded = figures.discarded_late_count + figures.discarded_future_count
        if discarded > self._discarded_before:
            sentence = (
                f"inferences were discarded, {figures.discarded_late_count} reported too late and "
                f"{figures.discarded_future_count} that lie in the future: are the machines' clocks the same, and "
                "is use_sim_time?"
            )
            self._problems["discarded"] = (sentence, now_ns)
        self._discarded_before = discarded
