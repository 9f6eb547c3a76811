"""The plain way of pictures through a network: prepared here, run by a backend, decoded here. It always works."""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np

from trt_perception.backends.base import Backend, RawOutputs
from trt_perception.backends.frame_path import EXPORTED_FOR_ONE
from trt_perception.class_choice import ClassChoice
from trt_perception.errors import OutputError
from trt_perception.heads import Head, HeadContext
from trt_perception.heads.base import describe_shapes
from trt_perception.model_file import InputSpec
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.stage_ranges import stage
from trt_perception.types import AnyArray, Float32Array, FrameResult, Image, StageTimes


class PlainPath:
    """Buffers for one picture, in the backend's own memory where it has such, and for the largest batch so far."""

    def __init__(self, backend: Backend, spec: InputSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._dtype = np.dtype(backend.info.inputs[0].dtype)
        self._shape = (spec.channels, spec.height, spec.width)
        self._one: tuple[Float32Array, list[Preprocessor]] = self._places(1, backend.input_buffer((1, *self._shape)))
        self._several = self._places(0)
        self._other_type: AnyArray | None = None

    def run(
        self, pictures: Sequence[Image], head: Head, context: HeadContext, choice: ClassChoice
    ) -> list[FrameResult]:
        """One or more pictures, of any sizes and colour orders, through the network together.

        Raises ImageError for an empty picture, BackendError, and OutputError when the outputs do not fit.
        """
        count = len(pictures)
        if count > max(1, len(self._several[1])):
            self._several = self._places(count)
        tensor, places = self._one if count == 1 else self._several
        before_ns = [time.monotonic_ns()]
        ways_back = []
        for place, picture in zip(places, pictures, strict=False):
            with stage("preprocess"):
                ways_back.append(place(picture)[1])
            before_ns.append(time.monotonic_ns())
        batch: AnyArray = tensor[:count] if count < len(tensor) else tensor
        if batch.dtype != self._dtype:
            batch = self._converted(batch)
            before_ns[-1] = time.monotonic_ns()
        with stage("inference"):
            raw = self._backend.infer(batch)
        if count > 1:
            _require_one_each(raw, count)
        results: list[FrameResult] = []
        for index, way_back in enumerate(ways_back):
            start_ns = time.monotonic_ns()
            own = raw.arrays if count == 1 else [array[index : index + 1] for array in raw.arrays]
            with stage("postprocess"):
                detections = postprocess(own, head, context, choice, way_back)
            times = StageTimes(
                before_ns[index + 1] - before_ns[index],
                raw.inference_ns,
                time.monotonic_ns() - start_ns,
                raw.start_ns,
                raw.host_to_device_ns,
                raw.device_to_host_ns,
                batch_size=count,
            )
            results.append(FrameResult(detections, times))
        return results

    def _converted(self, batch: AnyArray) -> AnyArray:
        """The batch in the type that the network takes, in memory that is used again for as many pictures."""
        kept = self._other_type
        if kept is None or kept.shape != batch.shape:
            kept = self._other_type = np.empty(batch.shape, self._dtype)
        if self._dtype == np.float16:
            # The same bits as NumPy's, in a thirtieth of the time. OpenCV's name for them is 16-bit integers.
            rows = (-1, batch.shape[-1])
            cv2.convertFp16(batch.reshape(rows), kept.view(np.int16).reshape(rows))
        else:
            np.copyto(kept, batch, casting="unsafe")
        return kept

    def _places(self, count: int, tensor: Float32Array | None = None) -> tuple[Float32Array, list[Preprocessor]]:
        """float32 (count, C, height, width), and for each place in it what writes a picture straight into it."""
        tensor = np.empty((count, *self._shape), np.float32) if tensor is None else tensor
        return tensor, [Preprocessor(self._spec, tensor[i : i + 1]) for i in range(count)]


def _require_one_each(raw: RawOutputs, count: int) -> None:
    if any(array.shape[:1] != (count,) for array in raw.arrays):
        raise OutputError(f"the network gave {describe_shapes(raw.arrays)} for a batch of {count}; {EXPORTED_FOR_ONE}")
