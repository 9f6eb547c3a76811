"""An engine as the network of the short way, with a runner that notes what it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trt_perception.backends.cuda_frames.network import DeviceNetwork
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.tensorrt_runtime.engine_network import EngineNetwork
from trt_perception.backends.tensorrt_runtime.engine_runner import EngineRunner
from trt_perception.backends.tensorrt_runtime.engine_tensors import InputRange
from trt_perception.errors import BackendError
from trt_perception.model_file import InputSpec
from trt_perception.types import TensorSpec


class Runner:
    """Of an engine whose sizes are free from 32 to 128."""

    range = InputRange((1, 3, 32, 32), (1, 3, 64, 64), (4, 3, 128, 128))
    inputs = (TensorSpec("images", "float32", (None, 3, None, None)),)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def set_shape(self, shape: tuple[int, ...], context: Any) -> tuple[TensorSpec, ...]:
        self.shapes.append(shape)
        return (TensorSpec("output0", "float32", (shape[0], 7, shape[2] * shape[3] // 64)),)

    def inference(
        self, stream: int, shape: tuple[int, ...], addresses: Mapping[str, int], context: Any
    ) -> Callable[[], None]:
        self.shapes.append(shape)
        return lambda: None


SESSION = cast(
    FrameSession,
    SimpleNamespace(stream_handle=7, device_memory=lambda size: SimpleNamespace(address=size, close=lambda: None)),
)


def test_the_input_is_of_the_size_that_pictures_are_prepared_for() -> None:
    runner = Runner()
    network: DeviceNetwork = EngineNetwork(cast(EngineRunner, runner), InputSpec(96, 64))
    assert network.batches == (1, 4)
    bound = network.bind(SESSION, 2, 0)
    assert bound.input.shape == (2, 3, 64, 96) and bound.input.address == 2 * 3 * 64 * 96 * 4
    assert [output.shape for output in bound.outputs] == [(2, 7, 96)]
    assert runner.shapes == [(2, 3, 64, 96)] * 2
    bound.close()


def test_a_size_that_the_engine_was_not_built_for_is_a_reason() -> None:
    with pytest.raises(BackendError, match=r"the engine takes \(1, 3, 32, 32\) to \(4, 3, 128, 128\)"):
        EngineNetwork(cast(EngineRunner, Runner()), InputSpec(160, 64))
