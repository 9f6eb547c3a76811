"""Pictures for INT8: what the camera sees, preprocessed as at run time; and TensorRT's entropy calibrator over them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trt_perception.atomic_file import write_atomically
from trt_perception.backends.tensorrt_runtime.cuda_session import Buffer, CudaSession
from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.errors import PerceptionError
from trt_perception.model_file import InputSpec
from trt_perception.preprocess import Preprocessor
from trt_perception.types import Float32Array, Image

LOG = logging.getLogger(__name__)

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_TOO_FEW = 20


class CalibrationImages:
    """Up to `count` pictures of a folder, evenly spread over its files in the order of their names."""

    def __init__(self, folder: Path, spec: InputSpec, count: int) -> None:
        """Raises PerceptionError for a folder without pictures."""
        if not folder.is_dir():
            raise PerceptionError(f"--calibImages: {folder} is no folder; give one with typical pictures")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
        if not files:
            raise PerceptionError(f"--calibImages: {folder} has no pictures ({', '.join(_SUFFIXES)})")
        step = max(len(files) / max(count, 1), 1.0)
        self.files = [files[int(index * step)] for index in range(min(count, len(files)))]
        self.spec = spec
        if len(self.files) < _TOO_FEW:
            LOG.warning(
                "only %d pictures for INT8 calibration; 100 and more of typical scenes keep accuracy", len(self.files)
            )

    def digest(self) -> str:
        """SHA-256 over how pictures are prepared and the files' contents, in order; raises PerceptionError."""
        digest = hashlib.sha256(repr(self.spec).encode())
        for path in self.files:
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise PerceptionError(f"--calibImages: {path} cannot be read ({error.strerror}); remove it") from error
        return digest.hexdigest()

    def pictures(self) -> Iterator[Image]:
        """Each picture; raises PerceptionError for a file that is none."""
        for path in self.files:
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if pixels is None:
                raise PerceptionError(f"--calibImages: {path} cannot be read as a picture; remove it or save it again")
            yield Image(np.asarray(pixels, np.uint8), "bgr")

    def batches(self, size: int = 1) -> Iterator[Float32Array]:
        """The pictures as float32 (size, C, height, width), preprocessed as the detector does it; copies.

        The last pictures come more than once where they do not fill a batch.
        """
        preprocess = Preprocessor(self.spec)
        tensors = (preprocess(picture)[0].copy() for picture in self.pictures())
        while some := list(islice(tensors, size)):
            batch = np.concatenate(some)
            yield np.resize(batch, (size, *batch.shape[1:]))


def make_calibrator(
    trt: TensorRt, session: CudaSession, images: CalibrationImages | None, batch: int, cache_file: Path | None
) -> Any:
    """An IInt8EntropyCalibrator2 that feeds `batch` pictures at a time and keeps TensorRT's result in cache_file.

    Without pictures the cache must exist. The caller keeps it alive during the build and then calls its free().
    """
    base: Any = trt.module.IInt8EntropyCalibrator2

    class Calibrator(base):
        def __init__(self) -> None:
            base.__init__(self)
            self._batches = images.batches(batch) if images is not None else iter(())
            self._buffer: Buffer | None = None
            # An exception cannot pass through TensorRT's C++ code; the builder raises it afterwards.
            self.failure: Exception | None = None

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                tensor = next(self._batches, None)
                if tensor is None:
                    return None
                with session.current():
                    if self._buffer is None:
                        self._buffer = session.buffer(tensor.shape, str(tensor.dtype))
                    self._buffer.host[...] = tensor
                    self._buffer.upload()
                    session.synchronize()
                return [self._buffer.address]
            except PerceptionError as error:
                self.failure = error
                return None

        def read_calibration_cache(self) -> bytes | None:
            if cache_file is None or not cache_file.is_file():
                return None
            LOG.info("INT8 ranges are taken from %s", cache_file)
            return cache_file.read_bytes()

        def write_calibration_cache(self, cache: Any) -> None:
            # After a failure the ranges are those of the pictures before it.
            if cache_file is None or self.failure is not None:
                return
            try:
                write_atomically(cache_file, bytes(cache))
            except PerceptionError as error:
                self.failure = error

        def free(self) -> None:
            if self._buffer is not None:
                self._buffer.close()

    return Calibrator()
