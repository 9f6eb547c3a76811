"""One row of a comparison: all that is known of one backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trt_perception.benchmark.accuracy import Agreement, Precision
from trt_perception.benchmark.bench_subject import TOTAL
from trt_perception.benchmark.plan import BenchPlan, Candidate
from trt_perception.control_budget import Verdict
from trt_perception.statistics import Summary, summarize

STAGES = ("preprocess", "host_to_device", "inference", "device_to_host", "postprocess", TOTAL)
# What the inference device is occupied with: the budget counts these.
_BUSY = ("host_to_device", "inference", "device_to_host")


@dataclass(frozen=True)
class CannotRun:
    """Why a backend has no figures. known_as, remedy: of the doctor, where it knows the failure."""

    reason: str
    known_as: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Batch:
    """Inference of a batch; summary_ms is None where it cannot, and reason says why."""

    size: int
    summary_ms: Summary | None
    reason: str | None = None


@dataclass(frozen=True)
class Row:
    """The measured row of a backend; samples_ms: stage → one value a measured frame, in their order, ms.

    peak_host_memory_mib: of its process; peak_device_memory_mib: on all GPUs, see device_memory.PeakWatch.
    """

    candidate: Candidate
    cannot_run: CannotRun | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    load_ms: float | None = None
    first_frame_ms: float | None = None
    samples_ms: Mapping[str, list[float]] = field(default_factory=dict)
    peak_host_memory_mib: float | None = None
    peak_device_memory_mib: float | None = None
    agreement: Agreement | None = None
    precision: Precision | None = None
    batches: tuple[Batch, ...] = ()

    @property
    def name(self) -> str:
        """What the backend was asked for as."""
        return self.candidate.request

    @property
    def ran(self) -> bool:
        """True where there are figures."""
        return self.cannot_run is None

    def summaries(self) -> dict[str, Summary]:
        """Stage → figures in ms, in the order in which the stages run, then the whole frame; nothing is trimmed."""
        return {stage: summarize(self.samples_ms[stage]) for stage in STAGES if self.samples_ms.get(stage)}

    def busy(self) -> Summary:
        """Inference with its copies, ms: what the control budget counts."""
        parts = [self.samples_ms[stage] for stage in _BUSY if self.samples_ms.get(stage)]
        return summarize([sum(values) for values in zip(*parts, strict=True)])


@dataclass(frozen=True)
class Share:
    """Shares of the control period, 1.0 = all of it. inference_*: busy time, which the verdict is about (its p99)."""

    inference_mean: float
    inference_p99: float
    total_p99: float
    verdict: Verdict


def share_of(row: Row, plan: BenchPlan) -> Share:
    """What a measured row takes of the control period."""
    busy, total = row.busy(), row.summaries()[TOTAL]
    p99 = busy.p99 / plan.period_ms
    return Share(busy.mean / plan.period_ms, p99, total.p99 / plan.period_ms, plan.thresholds.level(p99))
