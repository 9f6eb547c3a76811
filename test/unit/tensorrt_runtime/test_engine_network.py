"""An engine as the network of the short way, with a runner that notes what it is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from trt_perception.backends.cuda_frames.network import DeviceNetwork
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.tensorrt_runtime.engine_network import EngineNetwork
from trt_perception.backends.tensorrt_runtime.engine_runner import EngineRunner
from trt_perception.backends.tensorrt_runtime.engine_tensors import InputRange
from trt_perception.backends.tensorrt_runtime.shaped_context import ShapedContext
from trt_perception.errors import BackendError
from trt_perception.model_file import InputSpec
from trt_perception.types import TensorSpec


class Runner:
    """Of an engine whose sizes are free from 32 to 128."""

    range = InputRange((1, 3, 32, 32), (1, 3, 64, 64), (4, 3, 128, 128))
    inputs = (TensorSpec("images", "float32", (None, 3, None, None)),)

    def __init__(self, *, room_for: int = 9) -> None:
        self._room_for = room_for
        self.raw: list[Raw] = []
        self.context = self.further_context()

    def further_context(self) -> ShapedContext:
        if len(self.raw) == self._room_for:
            raise BackendError("no room for one more execution context")
        self.raw.append(Raw())
        return ShapedContext(self.raw[-1], self.inputs[0], {"output0": "float32"})


class Raw:
    """IExecutionContext, which takes up to four pictures."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.runs: list[tuple[int, tuple[int, ...]]] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "images"
        self.shape = shape
        return shape[0] <= 4

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "output0"
        return self.shape[0], 7, self.shape[2] * self.shape[3] // 64

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address != 13

    def execute_async_v3(self, stream: int) -> bool:
        self.runs.append((stream, self.shape))
        return True


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
    bound.enqueue()
    (raw,) = runner.raw
    assert raw.runs == [(7, (2, 3, 64, 96))]
    assert raw.addresses == {t.name: t.address for t in (bound.input, *bound.outputs)}
    bound.close()


def test_batches_that_share_a_context_are_recorded_again_after_one_another() -> None:
    network = EngineNetwork(cast(EngineRunner, Runner(room_for=1)), InputSpec(64, 64))
    one = network.bind(SESSION, 1, 0)
    one.enqueue()
    assert not one.is_stale
    four = network.bind(SESSION, 4, 0)
    assert one.is_stale
    four.enqueue()
    assert not four.is_stale
    one.enqueue()
    # Its shape is what it was when it was recorded, what TensorRT keeps for it need not be.
    four.enqueue()
    assert one.is_stale and not four.is_stale
    one.close()
    assert not one.is_stale


def test_batches_with_contexts_of_their_own_do_not_disturb_each_other() -> None:
    network = EngineNetwork(cast(EngineRunner, Runner()), InputSpec(64, 64))
    bound = [network.bind(SESSION, batch, 0) for batch in (1, 4, 2)]
    for _ in range(2):
        for each in bound:
            each.enqueue()
    assert not any(each.is_stale for each in bound)


def test_batches_share_where_there_is_no_room_for_further_contexts(caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner(room_for=2)
    network = EngineNetwork(cast(EngineRunner, runner), InputSpec(64, 64))
    one, two, three = (network.bind(SESSION, batch, 0) for batch in (1, 2, 3))
    # One batch could not have its own; from then on nothing is tried.
    assert caplog.text.count("no room for one more execution context") == 1
    for each in (one, two, three):
        each.enqueue()
    assert one.is_stale and not two.is_stale and not three.is_stale
    with pytest.raises(BackendError, match="no room"):
        network.bind(SESSION, 1, 1)


def test_what_a_context_refuses_is_said() -> None:
    context = Runner().context
    with pytest.raises(BackendError, match=r"refuses the input shape \(8, 3, 64, 64\) for images"):
        context.set_shape((8, 3, 64, 64))
    # Whatever that left in it.
    context.set_shape((1, 3, 64, 64))
    assert context.changes == 2
    with pytest.raises(BackendError, match="refuses the memory for its tensor output0"):
        context.enqueue(7, (1, 3, 64, 64), [("images", 4), ("output0", 13)])


def test_a_size_that_the_engine_was_not_built_for_is_a_reason() -> None:
    with pytest.raises(BackendError, match=r"the engine takes \(1, 3, 32, 32\) to \(4, 3, 128, 128\)"):
        EngineNetwork(cast(EngineRunner, Runner()), InputSpec(160, 64))
