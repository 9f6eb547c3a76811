"""`--precision auto`: the fastest of FP32, FP16 and INT8 that still finds what FP32 finds in the user's pictures."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from trt_perception.atomic_file import write_atomically
from trt_perception.backends.tensorrt_runtime.manifest import manifest_path
from trt_perception.detector import Detector
from trt_perception.engine.build import BuildResult, build_engine
from trt_perception.engine.calibration import CalibrationImages
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.progress import ProgressBar
from trt_perception.errors import PerceptionError
from trt_perception.evaluation import mean_average_precision
from trt_perception.model_file import Artifact, ModelFile
from trt_perception.types import Detections

LOG = logging.getLogger(__name__)

REFERENCE = "fp32"
# Precision → whether FP16 and INT8 are allowed; each may fall back on those before it, which is how it is fastest.
_CANDIDATES = {REFERENCE: (False, False), "fp16": (True, False), "int8": (True, True)}
# Choice.reasons, as they stand in a manifest.
_REASON = re.compile(rf"({'|'.join(_CANDIDATES)}): [0-9.]+ ms, mAP50 drop ")


@dataclass(frozen=True)
class Measured:
    """One precision: inference_ns is the median on the device, without the copies, which are the same for all of them
    and vary by more than precisions differ; map50 counts FP32's detections as truth."""

    precision: str
    inference_ns: int
    map50: float


@dataclass(frozen=True)
class Choice:
    """The precision to take, and one line for each candidate that says why or why not."""

    precision: str
    reasons: tuple[str, ...]


def choose_precision(measured: Sequence[Measured], max_drop: float) -> Choice:
    """The fastest whose map50 lies no more than max_drop (0..1) below the reference's, which is always allowed."""
    reference = next(entry for entry in measured if entry.precision == REFERENCE)
    allowed = [e for e in measured if e is reference or reference.map50 - e.map50 <= max_drop]
    fastest = min(allowed, key=lambda entry: entry.inference_ns)
    reasons: list[str] = []
    for entry in measured:
        drop = reference.map50 - entry.map50
        too_much = f"loses more than {max_drop:g}" if not math.isnan(drop) else "FP32 finds nothing in these pictures"
        verdict = "taken" if entry is fastest else "slower" if entry in allowed else too_much
        reasons.append(f"{entry.precision}: {entry.inference_ns / 1e6:.3f} ms, mAP50 drop {drop:.4f}: {verdict}")
    return Choice(fastest.precision, tuple(reasons))


def build_fastest(
    options: BuildOptions,
    model: ModelFile,
    max_drop: float,
    *,
    during_build: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> BuildResult:
    """Builds all three into the cache, measures them here on options.calib_images and returns the chosen one.

    The pictures need no labels: what the FP32 engine finds counts as truth. Raises PerceptionError.
    """
    if options.calib_images is None:
        raise PerceptionError("--precision auto needs pictures: give --calibImages=FOLDER of what the camera sees")
    images = CalibrationImages(options.calib_images, model.input, options.calib_count)
    results: dict[str, BuildResult] = {}
    measured: list[Measured] = []
    truth: list[Detections] | None = None
    for precision, (fp16, int8) in _CANDIDATES.items():
        wanted = replace(options, save_engine=None, fp16=fp16, int8=int8)
        result = build_engine(wanted, model.input, progress=ProgressBar(), during_build=during_build)
        found, inference_ns = _run(model, result, images, options.device)
        truth = found if truth is None else truth
        measured.append(Measured(precision, inference_ns, mean_average_precision(found, truth).map50))
        results[precision] = result
    choice = choose_precision(measured, max_drop)
    for reason in choice.reasons:
        LOG.info("%s", reason)
    return _kept(results[choice.precision], options, choice)


def _run(model: ModelFile, result: BuildResult, images: CalibrationImages, device: int) -> tuple[list[Detections], int]:
    chosen = replace(model, artifacts={"engine": Artifact(result.engine)})
    found: list[Detections] = []
    times: list[int] = []
    # What it may bring with it was put in just now.
    settings = {"tensorrt": {"engine_host_code_allowed": True}}
    with Detector.open(chosen, f"tensorrt:cuda:{device}", settings=settings) as detector:
        detector.warm_up()
        for picture in images.pictures():
            frame = detector.detect(picture)
            found.append(frame.detections)
            times.append(frame.times.inference_ns)
    return found, int(np.median(times))


def _kept(result: BuildResult, options: BuildOptions, choice: Choice) -> BuildResult:
    """The result with its choice explained, copied to --saveEngine where that was given."""
    # An engine of the cache may have been chosen, or not, before.
    notes = [note for note in result.manifest.notes if not _REASON.match(note)]
    explained = replace(result.manifest, notes=(*notes, *choice.reasons))
    target = options.save_engine or result.engine
    if target != result.engine:
        write_atomically(target, result.engine.read_bytes())
    write_atomically(manifest_path(target), explained.to_json().encode())
    return BuildResult(target, explained, result.built, (*result.reasons, *choice.reasons))
