"""The short way around networks on the processor, which stands in for a GPU, against the plain way."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from test.driver_on_processor import compile_for_the_processor, driver_on_processor
from test.frames import LETTERBOX, SIZES, SPECS, assert_same_input, random_frame
from trt_perception.backends.cuda_frames.driver import RowsUpload, call, is_page_locked
from trt_perception.backends.cuda_frames.geometry import ENCODINGS, HEADER_BYTES, StagedRows
from trt_perception.backends.cuda_frames.kernels import FrameKernels
from trt_perception.backends.cuda_frames.network import DeviceTensor
from trt_perception.backends.cuda_frames.path import CudaFramePath
from trt_perception.backends.cuda_frames.recording import GraphRecording, add_to_recording
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.cuda_frames.shared_work import SharedWork
from trt_perception.backends.cuda_frames.slot import FrameSlot
from trt_perception.backends.cuda_frames.structs import CAPACITY
from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.backends.tensorrt_runtime.shaped_context import ShapedContext
from trt_perception.class_choice import ClassChoice
from trt_perception.encodings import decode_frame
from trt_perception.errors import BackendError
from trt_perception.heads import HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.placement import place
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.types import AnyArray, Detections, TensorSpec, Thresholds

CLASSES = 3
LABELS = ("a", "b", "c")
CHOICE = ClassChoice(Thresholds(score=0.4), LABELS)
CONTEXT = HeadContext(LETTERBOX.width, LETTERBOX.height, CLASSES)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    library = compile_for_the_processor("driver_on_processor.cpp", tmp_path_factory.mktemp("driver") / "libcuda.so")
    with driver_on_processor(library) as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def nothing_left_and_always_a_context(driver: ctypes.CDLL) -> Iterator[None]:
    before = driver.test_live_objects()
    yield
    assert driver.test_live_objects() == before
    assert driver.test_calls_without_context() == 0


def array_at(tensor: DeviceTensor) -> AnyArray:
    size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
    raw = (ctypes.c_uint8 * size).from_address(tensor.address)
    return np.frombuffer(memoryview(raw), tensor.dtype).reshape(tensor.shape)


class Bound:
    """A network in NumPy, or, recordable, one that hands its input through."""

    is_stale = False

    def __init__(self, network: Network, session: FrameSession, batch: int) -> None:
        self.recordable = network.compute is None
        self.channels_last = network.channels_last
        self._compute, self._session = network.compute, session
        with ExitStack() as undo:
            shape = (batch, *network.shape)
            self.input = self._tensor(undo, "images", np.zeros(shape, network.input_dtype))
            outputs = (array_at(self.input),) if self._compute is None else self._compute(array_at(self.input))
            self.outputs = tuple(self._tensor(undo, f"output{i}", output) for i, output in enumerate(outputs))
            self._undo = undo.pop_all()

    def _tensor(self, undo: ExitStack, name: str, like: AnyArray) -> DeviceTensor:
        memory = self._session.zeroed(like.nbytes)
        undo.callback(memory.close)
        return DeviceTensor(name, str(like.dtype), like.shape, memory.address)

    def enqueue(self) -> None:
        if self._compute is None:
            # Device memory is the host's here, so that this is a copy from tensor to tensor, which can be recorded.
            size = array_at(self.input).nbytes
            call("cuMemcpyDtoHAsync_v2", self.outputs[0].address, self.input.address, size, 0)
        else:
            for tensor, output in zip(self.outputs, self._compute(array_at(self.input)), strict=True):
                array_at(tensor)[...] = output

    def close(self) -> None:
        self._undo.close()


class Network:
    def __init__(
        self,
        compute: Callable[[AnyArray], Sequence[AnyArray]] | None = None,
        spec: InputSpec = LETTERBOX,
        *,
        batches: tuple[int, int] = (1, 1),
        dtype: str = "float32",
        channels_last: bool = False,
    ) -> None:
        self.compute, self.batches, self.input_dtype, self.channels_last = compute, batches, dtype, channels_last
        self.shape = (spec.channels, spec.height, spec.width)
        self.bound: list[tuple[int, int]] = []
        self.no_graph_reason: str | None = None

    def bind(self, session: FrameSession, batch: int, index: int) -> Bound:
        self.bound.append((batch, index))
        return Bound(self, session, batch)


def averages(pictures: AnyArray) -> list[AnyArray]:
    """Boxes and scores that depend on the picture: (batch, 4 + classes, cells of 16x16)."""
    batch, channels, height, width = pictures.shape
    cells = pictures.reshape(batch, channels, height // 16, 16, width // 16, 16).mean(axis=(3, 5))
    means = cells.reshape(batch, channels, -1).astype(np.float32)
    return [np.concatenate((means[:, :1] * 150, means * 100, means), axis=1)]


@pytest.fixture
def opened(driver: ctypes.CDLL) -> Iterator[Callable[..., CudaFramePath]]:
    """A path around a network; closed in the end."""
    with ExitStack() as undo:

        def open_path(network: Network, spec: InputSpec = LETTERBOX, head: str = "yolov8", **how: Any) -> CudaFramePath:
            session = FrameSession(0)
            undo.callback(session.close)
            plan = FramePlan(spec, head, head_for(head).needs_nms, CLASSES)
            how.setdefault("tell", pytest.fail)
            path = CudaFramePath(network, session, plan, threading.RLock(), **how)
            undo.callback(path.close)
            return path

        yield open_path


def raw_of(path: CudaFramePath, frame: CameraFrame) -> AnyArray:
    (found,) = path.run([frame], CHOICE).found
    assert not isinstance(found, Survivors)
    return found[0].copy()


def plain(frame: CameraFrame, choice: ClassChoice = CHOICE) -> Detections:
    tensor, way_back = Preprocessor(LETTERBOX)(decode_frame(frame))
    return postprocess(averages(tensor), head_for("yolov8"), CONTEXT, choice, way_back)


def assert_plain(found: object, frame: CameraFrame, choice: ClassChoice = CHOICE) -> None:
    expected = plain(frame, choice)
    assert isinstance(found, Survivors) and found.suppressed
    _, way_back = place(LETTERBOX, frame.width, frame.height)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(way_back.map_boxes(found.boxes_xyxy), expected.boxes_xyxy, atol=1e-3)


FRAMES = [
    random_frame("bgr8", 64, 48, 1),
    random_frame("nv12", 320, 180, 2),
    random_frame("mono8", 90, 302, 3),
    random_frame("bgr8", 1280, 720, 4),
]


# --- what the network is given ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SPECS)
def test_the_input_is_the_preprocessors(opened: Any, name: str, size: tuple[int, int]) -> None:
    spec = SPECS[name]
    frame = random_frame("bgr8", *size)
    expected, _ = Preprocessor(spec)(decode_frame(frame))
    path = opened(Network(spec=spec), spec, "detr", tell=print)
    assert_same_input(raw_of(path, frame), expected, spec)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding_from_every_kind_of_memory(opened: Any, encoding: str) -> None:
    copied, mapped = (opened(Network(), head="detr", shared=shared, tell=print) for shared in (False, True))
    session = FrameSession(0)
    # Rows without a pattern, every third one, pairs of them, all.
    for width, height, padding in ((330, 190, 0), (330, 190, 6), (480, 384, 4), (960, 768, 0), (160, 128, 0)):
        frame = random_frame(encoding, width, height, 3, padding)
        expected, _ = Preprocessor(LETTERBOX)(decode_frame(frame))
        with session.current():
            locked = session.host_memory(frame.buffer.size)
            locked.array[...] = frame.buffer
            there = replace(frame, buffer=locked.array)
            assert is_page_locked(locked.address) and not is_page_locked(frame.buffer.ctypes.data)
        for path, given in ((copied, frame), (mapped, frame), (copied, there), (mapped, there), (copied, frame)):
            np.testing.assert_array_equal(raw_of(path, given), expected)
        with session.current():
            del there
            locked.close()
    session.close()


def test_other_layouts_and_types_of_the_input(opened: Any) -> None:
    frame = FRAMES[1]
    expected, _ = Preprocessor(LETTERBOX)(decode_frame(frame))
    last = raw_of(opened(Network(channels_last=True), head="detr", tell=print), frame)
    np.testing.assert_array_equal(last.reshape(1, LETTERBOX.height, LETTERBOX.width, 3).transpose(0, 3, 1, 2), expected)
    half = raw_of(opened(Network(dtype="float16"), head="detr", tell=print), frame)
    # Half precision is handed on as float32.
    np.testing.assert_array_equal(half, expected.astype(np.float16).astype(np.float32))
    with pytest.raises(BackendError, match="the network takes int32, the kernels write float32, float16, uint8"):
        opened(Network(dtype="int32"))


# --- what comes back --------------------------------------------------------------------------------------------


def test_frames_of_any_size_one_after_the_other(opened: Any) -> None:
    path = opened(Network(averages))
    assert path.max_batch == 1
    for frame in (*FRAMES, *FRAMES[::-1]):
        result = path.run([frame], CHOICE)
        assert len(plain(frame))
        assert_plain(result.found[0], frame)
        times = result.times
        assert min(times.preprocess_ns, times.inference_ns, times.postprocess_ns, times.host_to_device_ns) > 0
        # Little is written, which takes less than the clock's step at times.
        assert times.device_to_host_ns is not None and times.device_to_host_ns >= 0
        assert times.around_on_device_ns == times.preprocess_ns + times.postprocess_ns
    with pytest.raises(BackendError, match="got 2 frames; this path takes 1 to 1"):
        path.run(FRAMES[:2], CHOICE)


def test_other_thresholds_count_from_the_next_frame_on(opened: Any) -> None:
    path = opened(Network(averages))
    for thresholds in (
        Thresholds(score=0.45),
        Thresholds(score=0.3, max_detections=2),
        Thresholds(score=0.9, per_class=(("b", 0.3),)),
        Thresholds(score=0.3, classes=("c",)),
        Thresholds(score=0.999),
    ):
        choice = ClassChoice(thresholds, LABELS)
        assert_plain(path.run([FRAMES[0]], choice).found[0], FRAMES[0], choice)


@pytest.mark.parametrize("batches", [(1, 4), (4, 4)], ids=["free", "fixed at 4"])
def test_frames_in_one_batch(opened: Any, batches: tuple[int, int]) -> None:
    network = Network(averages, batches=batches)
    path = opened(network)
    assert path.max_batch == 4
    for order in ((0, 1, 2, 3), (2,), (2, 0, 1), (3, 2), (1,), (0, 1, 2, 3)):
        found = path.run([FRAMES[i] for i in order], CHOICE).found
        assert len(found) == len(order)
        for one, index in zip(found, order, strict=True):
            assert_plain(one, FRAMES[index])
    assert {batch for batch, _ in network.bound} == ({1, 2, 3, 4} if batches == (1, 4) else {4})


class StateOfAContext(Network):
    """Hands its input through, but for the first value: the number of pictures that a context shared by all batches
    was last given. As TensorRT does, it takes note of that while work is queued, not when the work is done.
    """

    def __init__(self, session: FrameSession) -> None:
        super().__init__(batches=(1, 4))
        self.memory = session.zeroed(4)
        noted = (ctypes.c_float * 1).from_address(self.memory.address)
        raw = SimpleNamespace(set_input_shape=lambda _, shape: noted.__setitem__(0, shape[0]) is None)
        self.context = ShapedContext(raw, TensorSpec("images", "float32", (None,)), {})

    def bind(self, session: FrameSession, batch: int, index: int) -> Bound:
        return BoundToAContext(self, session, batch)


class BoundToAContext(Bound):
    def __init__(self, network: StateOfAContext, session: FrameSession, batch: int) -> None:
        super().__init__(network, session, batch)
        self._network, self._batch, self._changes = network, batch, -1

    @property
    def is_stale(self) -> bool:  # type: ignore[override]
        return self._changes != self._network.context.changes

    def enqueue(self) -> None:
        self._network.context.set_shape((self._batch,))
        self._changes = self._network.context.changes
        super().enqueue()
        call("cuMemcpyDtoHAsync_v2", self.outputs[0].address, self._network.memory.address, 4, 0)


def test_what_does_not_hold_any_more_is_recorded_again(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, record = FrameKernels.prepare, FrameSlot._record
    recorded: list[int] = []

    def with_frames_of_no_size(self: FrameKernels, session: FrameSession, staged: int, *rest: Any) -> None:
        capacity, *_, batch = rest
        for index in range(batch):
            # What lay there may name tables of a size that is not kept any more.
            assert not any((ctypes.c_uint8 * HEADER_BYTES).from_address(staged + index * capacity))
        prepare(self, session, staged, *rest)

    def noted(slot: FrameSlot) -> None:
        recorded.append(slot._batch)
        with monkeypatch.context() as patch:
            patch.setattr(FrameKernels, "prepare", with_frames_of_no_size)
            record(slot)

    monkeypatch.setattr(FrameSlot, "_record", noted)
    session = FrameSession(0)
    with session.current():
        network = StateOfAContext(session)
    path = opened(network, head="detr", tell=print)
    inputs = [Preprocessor(LETTERBOX)(decode_frame(frame))[0].copy() for frame in FRAMES]
    turns = (1, 4, *[1] * 10, 2, *[4] * 10, 1, 1, 4, 4, 1)
    for count in turns:
        found = path.run(FRAMES[:count], CHOICE).found
        assert found[0][0].flat[0] == count
        for one, expected in zip(found, inputs, strict=False):
            np.testing.assert_array_equal(one[0].flat[1:], expected.flat[1:])
    # At first without a frame and again for its size; then only where a batch comes nine times in a row.
    assert recorded == [1, 1, 4, 4, 1, 2, 2, 4]
    path.close()
    with session.current():
        network.memory.close()
    session.close()


def test_two_threads_copy_a_large_batch_from_ordinary_memory(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = opened(Network(averages, batches=(1, 4)))
    frames = [random_frame(encoding, 1280, 720, seed) for seed, encoding in enumerate(("bgr8", "nv12", "rgb8", "uyvy"))]
    threads: set[int] = set()
    copy = StagedRows.copy
    # Each thread's first frame waits for the other's, so that one alone cannot take all of them.
    both = threading.Barrier(2)

    def noting(plane: StagedRows, *what: Any) -> None:
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            both.wait(10)
        copy(plane, *what)

    path.run(frames[:1], CHOICE)
    monkeypatch.setattr(StagedRows, "copy", noting)
    for one, frame in zip(path.run(frames, CHOICE).found, frames, strict=True):
        assert_plain(one, frame)
    assert len(threads) == 2
    # Each geometry's header is known by now, and small frames are one thread's.
    monkeypatch.setattr(StagedRows, "copy", copy)
    for order in ([3, 2, 1, 0], [0, 1], [2]):
        for one, index in zip(path.run([frames[i] for i in order], CHOICE).found, order, strict=True):
            assert_plain(one, frames[index])


def test_frames_of_both_kinds_of_memory_in_one_batch(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = opened(Network(averages, batches=(1, 4)))
    frames = [random_frame("bgr8", 1280, 720, seed) for seed in range(4)]
    session = FrameSession(0)
    with session.current():
        memory = [session.host_memory(frame.buffer.size) for frame in frames[:2]]
    for block, frame in zip(memory, frames[:2], strict=True):
        block.array[...] = frame.buffer
    locked = [replace(frame, buffer=block.array) for block, frame in zip(memory, frames[:2], strict=True)]
    queue = RowsUpload.queue
    queued_by: list[int] = []

    def noting(upload: RowsUpload, *what: Any) -> None:
        queued_by.append(threading.get_ident())
        queue(upload, *what)

    monkeypatch.setattr(RowsUpload, "queue", noting)
    for given in ((locked[0], frames[2], locked[1], frames[3]), (frames[2], frames[3], *locked), (*locked, frames[3])):
        for one, frame in zip(path.run(given, CHOICE).found, given, strict=True):
            assert_plain(one, frame)
    # Frames of one size share the object that queues their rows, so that one thread alone may.
    assert queued_by == [threading.get_ident()] * 6
    del locked, given, frame
    with session.current():
        for block in memory:
            block.close()
    session.close()


def test_the_copying_thread_ends_before_its_memory_goes(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = opened(Network(averages, batches=(1, 4)))
    path.run([random_frame("bgr8", 1280, 720, seed) for seed in range(2)], CHOICE)
    ended: list[str] = []

    def noted(name: str, close: Callable[[Any], None]) -> Callable[[Any], None]:
        def note(owner: Any) -> None:
            ended.append(name)
            close(owner)

        return note

    monkeypatch.setattr(SharedWork, "close", noted("thread", SharedWork.close))
    monkeypatch.setattr(FrameSlot, "close", noted("slot", FrameSlot.close))
    path.close()
    assert ended == ["thread", "slot", "slot"]


def run_together(pictures: AnyArray) -> list[AnyArray]:
    """As a graph that was exported for one picture: its last step joins the boxes of all of them."""
    (output,) = averages(pictures)
    return [np.concatenate(list(output), axis=1)[None]]


@pytest.mark.parametrize("head", ["yolov8", "detr"])
def test_outputs_that_hold_several_pictures_as_one_are_refused(opened: Any, head: str) -> None:
    path = opened(Network(run_together, batches=(1, 4)), head=head, tell=print)
    path.run([FRAMES[0]], CHOICE)
    with pytest.raises(BackendError, match=r"output0.*\(1, 7, .* for a batch of 2; its graph was exported for one"):
        path.run(FRAMES[:2], CHOICE)
    path.run([FRAMES[0]], CHOICE)


def test_frames_on_streams(opened: Any) -> None:
    network = Network(averages)
    path = opened(network, streams=3)
    assert path.max_batch == 3
    for order in ((0, 1, 2), (3,), (2, 0)):
        result = path.run([FRAMES[i] for i in order], CHOICE)
        for one, index in zip(result.found, order, strict=True):
            assert_plain(one, FRAMES[index])
        assert result.times.busy_ns > 0
    assert network.bound == [(1, 0), (1, 1), (1, 2)]


class RecordedUpTo(Network):
    """Cannot be recorded with more pictures than `most`."""

    most = 2

    def bind(self, session: FrameSession, batch: int, index: int) -> Bound:
        if batch > self.most:
            self.no_graph_reason = f"{batch} are too many"
        return super().bind(session, batch, index)


def test_a_batch_that_cannot_be_recorded_is_said_when_it_comes(opened: Any) -> None:
    notes: list[str] = []
    path = opened(RecordedUpTo(averages, batches=(1, 4)), tell=notes.append)
    path.run(FRAMES[:2], CHOICE)
    assert notes == []
    for count in (3, 4, 3):
        path.run(FRAMES[:count], CHOICE)
    assert notes == ["no CUDA graph for further batches: 3 are too many"]
    opened(RecordedUpTo(averages, batches=(4, 4)), tell=notes.append)
    assert notes[1:] == ["no CUDA graph: 4 are too many"]


class OneStreamOnly(Network):
    """Cannot be bound to a further stream while `refuses`."""

    refuses = True

    def bind(self, session: FrameSession, batch: int, index: int) -> Bound:
        if index and self.refuses:
            raise BackendError("no room for another one")
        return super().bind(session, batch, index)


def test_a_stream_that_cannot_be_had_is_made_once(opened: Any, driver: ctypes.CDLL) -> None:
    network = OneStreamOnly(averages)
    path = opened(network, streams=2)
    live = []
    for _ in range(3):
        with pytest.raises(BackendError, match="no room"):
            path.run(FRAMES[:2], CHOICE)
        live.append(driver.test_live_objects())
    assert live[0] == live[1] == live[2]
    network.refuses = False
    for found, frame in zip(path.run(FRAMES[:2], CHOICE).found, FRAMES, strict=False):
        assert_plain(found, frame)


def test_a_frame_that_fails_leaves_none_on_its_way(opened: Any, driver: ctypes.CDLL) -> None:
    path = opened(Network(averages), streams=2)
    path.run(FRAMES[:2], CHOICE)
    driver.test_fail_synchronizations(1)
    with pytest.raises(BackendError, match="cuStreamSynchronize"):
        path.run(FRAMES[:2], CHOICE)
    for found, frame in zip(path.run(FRAMES[2:4], CHOICE).found, FRAMES[2:], strict=False):
        assert_plain(found, frame)


def test_more_sizes_than_are_kept(opened: Any) -> None:
    path = opened(Network(averages))
    for _ in range(2):
        for index in range(40):
            frame = random_frame("bgr8", 40 + 2 * index, 50, index)
            assert_plain(path.run([frame], CHOICE).found[0], frame)


# --- what the device leaves to the host --------------------------------------------------------------------------


def flood(pictures: AnyArray) -> list[NDArray[np.float32]]:
    boxes = np.tile(
        np.array([[40], [40], [20], [20], [0.9], [0.1], [0.1]], np.float32), (len(pictures), 1, CAPACITY + 1)
    )
    boxes[:, 0] += pictures.reshape(len(pictures), -1)[:, :1]
    return [boxes]


def test_a_flood_comes_down_as_it_is(opened: Any) -> None:
    path = opened(Network(flood, batches=(2, 2)))
    for found in path.run(FRAMES[:2], CHOICE).found:
        assert not isinstance(found, Survivors)
        assert found[0].shape == (1, 7, CAPACITY + 1)


def test_what_is_not_finite_comes_down_for_the_head_to_refuse(opened: Any) -> None:
    def broken(pictures: AnyArray) -> list[AnyArray]:
        (output,) = averages(pictures)
        output[:, 4] = np.nan
        return [output]

    (found,) = opened(Network(broken)).run([FRAMES[0]], CHOICE).found
    assert not isinstance(found, Survivors) and np.isnan(found[0]).any()


def test_a_head_without_a_kernel_says_so(opened: Any) -> None:
    notes: list[str] = []
    path = opened(Network(lambda x: [*averages(x), np.arange(5, dtype=np.int64)]), head="detr", tell=notes.append)
    assert notes == ["the head detr is decoded on the processor"]
    result = path.run([FRAMES[0]], CHOICE)
    (found,) = result.found
    assert result.times.postprocess_ns == 0 and (result.times.device_to_host_ns or 0) > 0
    # Another thread may close the path while these are decoded.
    path.close()
    assert all(array.base is None for array in found)
    tensor, _ = Preprocessor(LETTERBOX)(decode_frame(FRAMES[0]))
    np.testing.assert_allclose(found[0], averages(tensor)[0], rtol=1e-6)
    np.testing.assert_array_equal(found[1], np.arange(5))


def test_a_graph_becomes_part_of_another(driver: ctypes.CDLL) -> None:
    session = FrameSession(0)
    with session.current():
        memory, source = session.zeroed(4), session.host_memory(4)
        source.array[...] = 7
        stream, inner = session.stream_handle, ctypes.c_void_p()
        assert not add_to_recording(stream, 0)
        call("cuStreamBeginCapture_v2", stream, 1)
        session.upload(memory.address, source.address, 4)
        call("cuStreamEndCapture", stream, ctypes.byref(inner))
        with GraphRecording(stream) as recording:
            assert add_to_recording(stream, inner.value or 0)
        graph = recording.graph()
        graph.launch(stream)
        session.synchronize()
        assert (ctypes.c_uint8 * 4).from_address(memory.address)[:] == [7] * 4
        call("cuGraphDestroy", inner)
        for owned in (graph, memory, source):
            owned.close()
    session.close()


# --- errors and the end -------------------------------------------------------------------------------------------


def test_a_network_that_fails_leaves_the_path_usable(opened: Any) -> None:
    broken: list[bool] = []

    def compute(pictures: AnyArray) -> list[AnyArray]:
        if broken:
            raise BackendError("out of luck")
        return averages(pictures)

    path = opened(Network(compute))
    assert_plain(path.run([FRAMES[0]], CHOICE).found[0], FRAMES[0])
    broken.append(True)
    with pytest.raises(BackendError, match="out of luck"):
        path.run([FRAMES[3]], CHOICE)
    broken.clear()
    for frame in FRAMES:
        assert_plain(path.run([frame], CHOICE).found[0], frame)


def test_a_failed_kernel_is_the_backends_error(opened: Any, driver: ctypes.CDLL) -> None:
    path = opened(Network(averages))
    path.run([FRAMES[0]], CHOICE)
    driver.test_fail_synchronizations(1)
    with pytest.raises(BackendError, match=r"cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS.*start it again"):
        path.run([FRAMES[0]], CHOICE)


def test_a_gpu_that_failed_is_closed_without_a_word(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    session = FrameSession(0)
    there = session._own

    def refuse(name: str, *_: Any) -> None:
        raise BackendError(f"{name} failed: CUDA_ERROR_ILLEGAL_ADDRESS (error 700)")

    with monkeypatch.context() as patch:
        patch.setattr("trt_perception.backends.cuda_frames.session.call", refuse)
        session.close()
        session.close()
    with session.current():
        call("cuStreamDestroy_v2", there)


def test_a_network_that_cannot_be_bound_leaves_nothing(opened: Any) -> None:
    def compute(pictures: AnyArray) -> list[AnyArray]:
        raise BackendError("not for this shape")

    with pytest.raises(BackendError, match="not for this shape"):
        opened(Network(compute))


def test_memory_that_cannot_be_filled_is_given_back(driver: ctypes.CDLL) -> None:
    session = FrameSession(0)
    with session.current():
        before = driver.test_live_objects()
        ways: tuple[Callable[[], object], ...] = (lambda: session.zeroed(8), lambda: session.uploaded(np.ones(8)))
        for fill in ways:
            driver.test_fail_synchronizations(1)
            with pytest.raises(BackendError, match="cuStreamSynchronize failed"):
                fill()
            assert driver.test_live_objects() == before
    session.close()


def test_no_room_tells_the_sizes(driver: ctypes.CDLL) -> None:
    session = FrameSession(0)
    with session.current(), pytest.raises(BackendError, match=r"cannot allocate 2048.0 MiB on cuda:0 \(1024 of 1024 M"):
        session.device_memory(2**31)
    session.close()


def test_no_room_for_any_of_its_memory_leaves_nothing(driver: ctypes.CDLL) -> None:
    session = FrameSession(0)
    plan = FramePlan(LETTERBOX, "yolov8", True, CLASSES)
    before, failures = driver.test_live_objects(), 0
    path = None
    while path is None:
        driver.test_allow_allocations(failures)
        try:
            path = CudaFramePath(Network(averages), session, plan, threading.RLock(), tell=pytest.fail)
        except BackendError as error:
            assert "CUDA_ERROR_OUT_OF_MEMORY" in str(error)
            assert driver.test_live_objects() == before
            failures += 1
        finally:
            driver.test_allow_allocations(-1)
    assert failures > 8
    path.close()
    session.close()


def test_closing_again_and_using_it_then(opened: Any) -> None:
    path = opened(Network(averages))
    path.close()
    path.close()
    with pytest.raises(BackendError, match="closed by another thread"):
        path.run([FRAMES[0]], CHOICE)


def test_opening_again_and_again_leaves_nothing(driver: ctypes.CDLL) -> None:
    before = driver.test_live_objects()
    for _ in range(20):
        session = FrameSession(0)
        plan = FramePlan(LETTERBOX, "yolov8", True, CLASSES)
        path = CudaFramePath(Network(averages), session, plan, threading.RLock(), tell=pytest.fail, streams=2)
        path.run(FRAMES[:2], CHOICE)
        path.close()
        session.close()
        assert driver.test_live_objects() == before


def test_a_stream_of_somebody_else_stays_open(driver: ctypes.CDLL) -> None:
    owner = FrameSession(0)
    guest = FrameSession(0, owner.stream_handle)
    before = driver.test_live_objects()
    guest.close()
    assert driver.test_live_objects() == before and guest.stream_handle == owner.stream_handle
    owner.close()


def test_tables_of_a_frame_stay_while_another_frame_of_its_batch_is_new(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many are kept as a batch may need.
    monkeypatch.setattr("trt_perception.backends.cuda_frames.path._KEPT_GEOMETRIES", 1)
    path = opened(Network(averages, batches=(1, 2)))
    oldest, other, new = FRAMES[:3]
    path.run([oldest], CHOICE)
    path.run([other], CHOICE)
    for found, frame in zip(path.run([oldest, new], CHOICE).found, (oldest, new), strict=True):
        assert_plain(found, frame)
    kept = [(encoding, width, height) for encoding, width, height, *_ in path._geometries]
    assert kept == [(frame.encoding, frame.width, frame.height) for frame in (oldest, new)]
