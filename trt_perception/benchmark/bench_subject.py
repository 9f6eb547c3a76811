"""One backend under measurement: what a worker process does when it is told to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from trt_perception.backends.base import Backend
from trt_perception.backends.first_backend import open_first
from trt_perception.detector import Detector
from trt_perception.errors import BackendError
from trt_perception.model_file import ModelFile
from trt_perception.models import load_model
from trt_perception.preprocess import Preprocessor
from trt_perception.types import Float32Array, Uint8Array, as_image

TOTAL = "total"
# COCO's average precision looks at the whole curve of precision over recall, which a detector's threshold cuts off.
_MAP_SCORE_THRESHOLD = 0.01


class BenchSubject:
    """An opened backend and the pictures. The frame with number i gets picture i modulo their count."""

    def __init__(self, model: ModelFile, backend: Backend, detector: Detector, pictures: Sequence[Uint8Array]) -> None:
        self.model = model
        self.detector = detector
        self._backend = backend
        self._pictures = [as_image(picture) for picture in pictures]

    @classmethod
    def open(cls, model: str, request: str, pictures: Sequence[Uint8Array]) -> tuple[BenchSubject, dict[str, Any]]:
        """Loads the model and opens the backend; returns also load_ms, first_frame_ms and what really runs.

        A backend that would run on another device raises DeviceMismatchError. Raises PerceptionError.
        """
        start_ns = time.monotonic_ns()
        chosen = load_model(model)
        backend = open_first(chosen, request)
        try:
            subject = cls(chosen, backend, Detector(chosen, backend), pictures)
        except BaseException:
            backend.close()
            raise
        load_ms = (time.monotonic_ns() - start_ns) / 1e6
        (first,) = subject.run(0, 1)
        info = {k: v for k, v in asdict(backend.info).items() if k not in ("metadata", "inputs", "outputs")}
        return subject, {"load_ms": load_ms, "first_frame_ms": first[TOTAL], "info": info}

    def run(self, start: int, count: int) -> list[dict[str, float]]:
        """Detects in `count` pictures from number `start` on: the time of each stage and of the whole call, ms."""
        samples = []
        for index in range(start, start + count):
            picture = self._pictures[index % len(self._pictures)]
            start_ns = time.monotonic_ns()
            result = self.detector.detect(picture)
            total_ns = time.monotonic_ns() - start_ns
            stages = {name.removesuffix("_ms"): value for name, value in result.times.durations_ms().items()}
            samples.append({**stages, TOTAL: total_ns / 1e6})
        return samples

    def save_outputs(self, path: Path) -> None:
        """Writes, for each picture, the raw outputs and the detections into one .npz file.

        Keys: `raw_I_K` output K of picture I; `boxes_I`, `scores_I`, `classes_I` with the model's thresholds, and
        `map_boxes_I` and so on with a low threshold, for the average precision.
        """
        arrays: dict[str, Any] = {}
        preprocess = Preprocessor(self.model.input)
        dtype = np.dtype(self._backend.info.inputs[0].dtype)
        sensitive = Detector(self.model, self._backend, replace(self.model.thresholds, score=_MAP_SCORE_THRESHOLD))
        for index, picture in enumerate(self._pictures):
            tensor, _ = preprocess(picture)
            for place, raw in enumerate(self._backend.infer(tensor.astype(dtype, copy=False)).arrays):
                arrays[f"raw_{index}_{place}"] = raw.copy()
            for prefix, detector in (("", self.detector), ("map_", sensitive)):
                found = detector.detect(picture).detections
                arrays[f"{prefix}boxes_{index}"] = found.boxes_xyxy
                arrays[f"{prefix}scores_{index}"] = found.scores
                arrays[f"{prefix}classes_{index}"] = found.class_ids
        np.savez(path, **arrays)

    def run_batch(self, size: int, warm_up: int, iterations: int) -> list[float]:
        """Inference (copies included) of batches of `size` pictures, ms each; raises BackendError if it cannot."""
        spec = self._backend.info.inputs[0]
        if spec.shape and spec.shape[0] not in (None, size):
            raise BackendError(
                f"the network takes batches of {spec.shape[0]} only; export it with a dynamic batch axis"
            )
        preprocess = Preprocessor(self.model.input)
        tensors: list[Float32Array] = []
        for picture in itertools.islice(itertools.cycle(self._pictures), size):
            tensors.append(preprocess(picture)[0].copy())
        batch = np.concatenate(tensors).astype(np.dtype(spec.dtype), copy=False)
        spent = []
        for _ in range(warm_up + iterations):
            raw = self._backend.infer(batch)
            spent.append(((raw.host_to_device_ns or 0) + raw.inference_ns + (raw.device_to_host_ns or 0)) / 1e6)
        return spent[warm_up:]

    def close(self) -> None:
        """Frees the backend."""
        self.detector.close()
