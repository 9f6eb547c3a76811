"""Several pictures become one input tensor."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from trt_perception.model_file import InputSpec
from trt_perception.preprocess import NetworkToImage, Preprocessor
from trt_perception.types import Float32Array, Image


class BatchInput:
    """A tensor with a place for each picture; each place has a Preprocessor of its own, which writes straight into it.

    Memory grows with the largest batch that was asked for and is used again.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._tensor: Float32Array = np.empty((0, spec.channels, spec.height, spec.width), np.float32)
        self._places: list[Preprocessor] = []

    def fill(self, images: Sequence[Image]) -> tuple[Float32Array, list[NetworkToImage], list[int]]:
        """float32 (N, C, height, width), valid until the next call; each picture's way back; how long each took, ns.

        Raises ImageError for an empty picture.
        """
        if len(images) > len(self._places):
            self._tensor = np.empty((len(images), *self._tensor.shape[1:]), np.float32)
            self._places = [Preprocessor(self._spec, self._tensor[i : i + 1]) for i in range(len(images))]
        ways_back: list[NetworkToImage] = []
        spent_ns: list[int] = []
        for place, image in zip(self._places, images, strict=False):
            start_ns = time.monotonic_ns()
            ways_back.append(place(image)[1])
            spent_ns.append(time.monotonic_ns() - start_ns)
        return self._tensor[: len(images)], ways_back, spent_ns
