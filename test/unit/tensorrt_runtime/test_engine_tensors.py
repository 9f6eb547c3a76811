"""An engine's tensors, from what an engine answers when it is asked for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trt_perception.backends.tensorrt_runtime.engine_tensors import InputRange, as_delivered, engine_tensors
from trt_perception.errors import BackendError
from trt_perception.types import TensorSpec

MODES = SimpleNamespace(INPUT="in", OUTPUT="out")
Tensors = dict[str, tuple[str, str, tuple[int, ...]]]


class Engine:
    """tensors: name → mode, TensorRT's name of the type, shape with -1 for a free axis."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return self._tensors[name][0]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self._tensors[name][1])

    def get_tensor_format(self, name: str) -> Any:
        return SimpleNamespace(name="CHW32" if name == "padded" else "LINEAR")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][2]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert (name, profile) == ("images", 0)
        return [[1, 3, 32, 32], [1, 3, 64, 64], [4, 3, 64, 64]]


def test_fixed_shapes_are_the_whole_range() -> None:
    found = engine_tensors(
        Engine({"boxes": ("out", "HALF", (1, 7, 8400)), "images": ("in", "UINT8", (1, 3, 64, 96))}), MODES
    )
    assert found.input == TensorSpec("images", "uint8", (1, 3, 64, 96))
    assert found.range == InputRange(*[(1, 3, 64, 96)] * 3)
    # In memory it is half precision, which the heads do not compute in.
    assert found.output_types == {"boxes": "float16"}
    assert found.delivered == (TensorSpec("boxes", "float32", (1, 7, 8400)),)


def test_free_axes_have_the_range_of_the_first_profile() -> None:
    tensors: Tensors = {"images": ("in", "FLOAT", (-1, 3, -1, -1)), "ids": ("out", "INT64", (-1, 300))}
    found = engine_tensors(Engine(tensors), MODES)
    assert found.input.shape == (None, 3, None, None)
    assert found.range == InputRange((1, 3, 32, 32), (1, 3, 64, 64), (4, 3, 64, 64))
    assert found.range.holds((2, 3, 48, 64)) and not found.range.holds((5, 3, 48, 64))
    assert not found.range.holds((3, 48, 64))
    assert found.delivered == (TensorSpec("ids", "int64", (None, 300)),)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"images": ("in", "FP8", (1, 3, 8, 8))}, "its tensor images is FP8; FLOAT, HALF"),
        ({"padded": ("in", "HALF", (1, 3, 8, 8))}, "its tensor padded is laid out as CHW32; .*--inputIOFormats"),
        ({"boxes": ("out", "FLOAT", (1, 7, 9))}, r"it has 0 inputs \(\); a detector's network takes one"),
        (
            {"a": ("in", "FLOAT", (1,)), "b": ("in", "FLOAT", (2,))},
            r"it has 2 inputs .*; a detector.s network takes one",
        ),
    ],
)
def test_what_no_detector_can_feed_is_refused(tensors: Tensors, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        engine_tensors(Engine(tensors), MODES)


def test_half_precision_is_delivered_as_float32_and_the_rest_as_it_is() -> None:
    half, whole = np.ones(3, np.float16), np.ones(3, np.int64)
    assert as_delivered(half).dtype == np.float32
    assert as_delivered(whole) is whole
