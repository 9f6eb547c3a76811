"""What share of each control period inference consumes: accounting, verdict, learned period, governor.

Free of ROS. All times are integer nanoseconds; nothing here reads a clock.
"""

from __future__ import annotations

from trt_perception.control_budget.accountant import BudgetAccountant
from trt_perception.control_budget.control_period import ControlPeriod
from trt_perception.control_budget.figures import BudgetFigures, LatencyFigures, ShareFigures
from trt_perception.control_budget.governor import InferenceGovernor
from trt_perception.control_budget.inference_interval import inference_interval_ns
from trt_perception.control_budget.monitor import BudgetMonitor, MonitorReport
from trt_perception.control_budget.period_learner import LearnedPeriod, PeriodLearner
from trt_perception.control_budget.report_names import named_caption, named_report, named_sentence, topics_in
from trt_perception.control_budget.united import BudgetReport, UnitedBudget, UnitedReport
from trt_perception.control_budget.verdict import BudgetThresholds, Verdict, VerdictTracker, budget_sentence

__all__ = [
    "BudgetAccountant",
    "BudgetFigures",
    "BudgetMonitor",
    "BudgetReport",
    "BudgetThresholds",
    "ControlPeriod",
    "InferenceGovernor",
    "LatencyFigures",
    "LearnedPeriod",
    "MonitorReport",
    "PeriodLearner",
    "ShareFigures",
    "UnitedBudget",
    "UnitedReport",
    "Verdict",
    "VerdictTracker",
    "budget_sentence",
    "inference_interval_ns",
    "named_caption",
    "named_report",
    "named_sentence",
    "topics_in",
]
