"""A bench document of known figures, made by the same code from invented samples."""

from __future__ import annotations

from typing import Any

from trt_perception.benchmark.accuracy import Agreement, Precision
from trt_perception.benchmark.document import bench_document
from trt_perception.benchmark.pictures import gather_pictures
from trt_perception.benchmark.plan import BenchPlan, Candidate
from trt_perception.benchmark.row import Batch, CannotRun, Row
from trt_perception.models import load_model
from trt_perception.statistics import summarize

MACHINE: dict[str, Any] = {
    "machine": "x86_64",
    "system": "Linux",
    "python": "3.11.0",
    "cpu": "a CPU & <more>",
    "logical_cores": 2,
    "usable_cores": 2,
    "load_average": [0.0, 0.0, 0.0],
    "newest_cuda_of_driver": "12.6",
    "gpus": [{"name": "a GPU"}],
    "libraries": {"numpy": "2"},
    "opencv_threads": 2,
    "variables": {},
}


def row(name: str, inference_ms: float, *, map50_95: float = 0.7, matched: int = 10) -> Row:
    """Ten frames around inference_ms, with 1 ms before and 2 ms after it."""
    inference = [inference_ms + 0.1 * index for index in range(10)]
    samples = {"preprocess": [1.0] * 10, "inference": inference, "postprocess": [2.0] * 10}
    samples["total"] = [3.1 + value for value in inference]
    device, _, precision = name.partition(":")[2].partition(":")
    return Row(
        Candidate(name),
        info={
            "backend": name.split(":")[0],
            "requested": name,
            "device": device,
            "device_name": "hardware",
            "provider": "provider",
            "precision": precision or "fp32",
            "library": "library 1",
        },
        load_ms=50.0,
        first_frame_ms=20.0,
        samples_ms=samples,
        peak_host_memory_mib=100.0,
        agreement=Agreement(0.1, 0.01, None, matched, 10, 10, 0.9),
        precision=Precision(map50_95 + 0.1, map50_95),
        batches=(Batch(4, summarize([3.0, 4.0])), Batch(8, None, "a fixed batch")),
    )


def cannot_run(name: str) -> Row:
    return Row(Candidate(name), CannotRun("it <cannot>", "a known failure", "do this & that"))


def document(*rows: Row, plan: BenchPlan | None = None) -> dict[str, Any]:
    """The document of those rows, on the demo model."""
    model = load_model("digits")
    plan = plan or BenchPlan("digits", tuple(row.candidate for row in rows), iterations=10)
    return bench_document(plan, model, gather_pictures(None, 2, model, None), rows, MACHINE)
