"""A comparison as one JSON document; docs/bench.schema.json describes it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trt_perception.benchmark.bench_subject import TOTAL
from trt_perception.benchmark.pictures import Pictures
from trt_perception.benchmark.plan import BenchPlan
from trt_perception.benchmark.recommend import map_drop, recommend, total_paces
from trt_perception.benchmark.row import Row, share_of
from trt_perception.checksum import file_sha256
from trt_perception.model_file import Artifact, ModelFile

KIND = "trt-perception bench"
SCHEMA_VERSION = 2


def bench_document(
    plan: BenchPlan, model: ModelFile, pictures: Pictures, rows: Sequence[Row], machine: dict[str, Any]
) -> dict[str, Any]:
    """Everything: settings, machine, model and picture hashes, figures and raw samples; plain values only."""
    pace, reference = total_paces(rows, plan), rows[plan.reference]
    recommended = recommend(rows, plan)
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "date_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "model": {
            "name": model.name,
            "head": model.head,
            "input": _plain(model.input),
            "thresholds": _plain(model.thresholds),
            "artifacts": {kind: _artifact(artifact) for kind, artifact in model.artifacts.items()},
        },
        "pictures": {
            "source": pictures.source,
            "count": len(pictures.pixels),
            "sizes_px": [list(size) for size in sorted({(p.shape[1], p.shape[0]) for p in pictures.pixels})],
            "sha256": pictures.sha256(),
            "labelled": pictures.truths is not None,
        },
        "settings": {
            "control_rate_hz": plan.control_rate_hz,
            "warm_up_frames": plan.warm_up_frames,
            "iterations": plan.iterations,
            "runs_per_block": plan.runs_per_block,
            "settle_frames": plan.settle_frames,
            "batch_sizes": list(plan.batch_sizes),
            "reference": reference.name,
            "max_map_drop": plan.max_map_drop,
            "borderline_share": plan.thresholds.borderline_share,
            "over_share": plan.thresholds.over_share,
        },
        "environment": machine,
        "rows": [_row(row, plan, pace, reference) for row in rows],
        "recommendation": asdict(recommended),
    }


def _plain(settings: Any) -> dict[str, Any]:
    """A dataclass as it comes back from a file, with lists for tuples: --against compares the two."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return values


def _artifact(artifact: Artifact) -> dict[str, Any]:
    there = artifact.path.is_file()
    return {"file": artifact.path.name, "sha256": file_sha256(artifact.path) if there else None}


def _row(row: Row, plan: BenchPlan, pace: Mapping[str, float], reference: Row) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "backend": row.name,
        "ran": row.ran,
        "cannot_run": asdict(row.cannot_run) if row.cannot_run is not None else None,
        "info": dict(row.info),
    }
    if not row.ran:
        return entry
    summaries, share = row.summaries(), share_of(row, plan)
    drop = map_drop(row, reference)
    return entry | {
        "load_ms": row.load_ms,
        "first_frame_ms": row.first_frame_ms,
        "peak_host_memory_mib": row.peak_host_memory_mib,
        "peak_device_memory_mib": row.peak_device_memory_mib,
        "stages_ms": {stage: asdict(summary) for stage, summary in summaries.items()},
        "frames_per_second": 1000.0 / summaries[TOTAL].mean,
        "control_period": {
            "inference_mean_share": share.inference_mean,
            "inference_p99_share": share.inference_p99,
            "total_p99_share": share.total_p99,
            "verdict": share.verdict.label,
        },
        "ratio_to_fastest": pace[row.name] / min(pace.values()),
        "ratio_to_reference": pace[row.name] / pace[reference.name] if reference.ran else None,
        "agreement": {**asdict(row.agreement), "share": row.agreement.share} if row.agreement is not None else None,
        "map50": _number(row.precision.map50) if row.precision is not None else None,
        "map50_95": _number(row.precision.map50_95) if row.precision is not None else None,
        "map_drop": _number(drop) if drop is not None else None,
        "batches": [
            {
                "size": batch.size,
                "inference_ms": asdict(batch.summary_ms) if batch.summary_ms is not None else None,
                "pictures_per_second": 1000.0 * batch.size / batch.summary_ms.mean if batch.summary_ms else None,
                "reason": batch.reason,
            }
            for batch in row.batches
        ],
        "samples_ms": {stage: list(values) for stage, values in row.samples_ms.items()},
    }


def _number(value: float) -> float | None:
    """JSON has no nan (no labelled object in any picture)."""
    return None if math.isnan(value) else value
