"""What the detector says of inference in /diagnostics; of its cameras, see input_diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from trt_perception.checksum import file_sha256
from trt_perception.detector import Detector, WarmUp
from trt_perception.model_file import Artifact
from trt_perception.ros.camera_channel import CameraChannel
from trt_perception.ros.diagnostics import ERROR, OK, WARN, Status


def inference_status(
    detector: Detector | None,
    state: str,
    problem: str | None,
    warm_up: WarmUp | None,
    cameras: Sequence[CameraChannel],
    enabled: bool,
    supervision: Mapping[str, object],
) -> Status:
    """What runs, on which device, how fast; ERROR with the reason when nothing can run."""
    if detector is None:
        if problem is not None:
            return Status("inference", ERROR, problem, {"lifecycle_state": state})
        return Status("inference", OK, f"the node is {state}; no model is loaded", {"lifecycle_state": state})
    info = detector.info
    values: dict[str, object] = {
        "lifecycle_state": state,
        "model": detector.model.name,
        "model_sha256": artifact_hash(detector.artifact),
        "backend": info.backend,
        "requested": info.requested,
        "device": info.device,
        "device_name": info.device_name,
        "provider": info.provider,
        "precision": info.precision,
        "library": info.library,
        "enabled": enabled,
        "backend_index": detector.backend_index,
        **supervision,
    }
    if info.notes:
        values["notes"] = "; ".join(info.notes)
    if warm_up is not None:
        values["warm_up_frames_ms"] = ", ".join(f"{ns / 1e6:.1f}" for ns in warm_up.frame_ns)
    for camera in cameras:
        prefix = f"{camera.pipeline_channel.name}." if len(cameras) > 1 else ""
        for name, window in list(camera.windows.items()):
            summary = window.summary()
            if summary is not None and name.endswith("_ms"):
                values[f"{prefix}{name}"] = (
                    f"p50 {summary.p50:.3f}, p95 {summary.p95:.3f}, p99 {summary.p99:.3f}, max {summary.max:.3f}"
                )
    device = f"{info.device} ({info.device_name})"
    if problem is not None:
        return Status("inference", ERROR, problem, values, device)
    if info.fallback_reason is not None:
        return Status("inference", WARN, f"fallback: {info.fallback_reason}", values, device)
    paused = "" if enabled else ", paused by ~/enable"
    return Status("inference", OK, f"{info.backend} on {info.device}, {info.precision}{paused}", values, device)


def artifact_hash(artifact: Artifact | None) -> str:
    """SHA-256 of the artifact that runs: as the model file gives it, which was checked, or read from the file.

    A file is read once for each state it is in; call it where that may take its time. `unknown` where it is gone.
    """
    if artifact is None:
        return "unknown"
    try:
        state = artifact.path.stat()
        return artifact.sha256 or _hash_of(artifact.path, state.st_size, state.st_mtime_ns)
    except OSError:
        return "unknown"


@lru_cache(maxsize=8)
def _hash_of(path: Path, size_bytes: int, modified_ns: int) -> str:
    return file_sha256(path)
