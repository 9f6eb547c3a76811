"""The TensorRT backend on a real GPU: right numbers, device times, threads, contexts, nothing left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from test.gpu.conftest import TACTICS, open_backend
from test.gpu.frame_checks import frame
from test.gpu.memory import BLOCK, left_behind
from test.gpu.networks import SIDE, reference, relative_error, write_network
from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.class_choice import ClassChoice
from trt_perception.engine.build import BuildResult, build_engine
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.errors import BackendError
from trt_perception.model_file import InputSpec
from trt_perception.types import AnyArray, Float32Array, Thresholds

CYCLES = 200


def test_fp32_engine_computes_what_onnxruntime_computes(
    small_fp32: BuildResult, small_onnx: Path, batch: Float32Array
) -> None:
    with open_backend(small_fp32.engine) as backend:
        (output,) = backend.infer(batch).arrays
        assert backend.info.precision == "fp32"
    # TF32 is on by default, as in every framework on such GPUs: ten bits of mantissa.
    assert relative_error(output, reference(small_onnx, batch)) < 2e-3


def test_fp16_engine_computes_what_onnxruntime_computes(
    small_fp16: BuildResult, small_onnx: Path, batch: Float32Array
) -> None:
    with open_backend(small_fp16.engine, "tensorrt:fp16") as backend:
        (output,) = backend.infer(batch).arrays
        info = backend.info
    assert relative_error(output, reference(small_onnx, batch)) < 5e-3
    assert info.device == "cuda:0"
    assert info.precision == "fp16"
    assert info.outputs[0].dtype == output.dtype == np.float32


def test_the_engine_of_an_onnx_file_is_found_in_the_cache(small_fp16: BuildResult, small_onnx: Path) -> None:
    with open_backend(small_onnx, "tensorrt:fp16") as backend:
        assert backend.info.precision == "fp16"


def test_every_stage_has_device_time_and_the_graph_is_on(small_fp16: BuildResult, batch: Float32Array) -> None:
    with open_backend(small_fp16.engine) as backend:
        assert not [note for note in backend.info.notes if "graph" in note]
        raw = backend.infer(batch)
    assert raw.host_to_device_ns is not None and raw.host_to_device_ns > 0
    assert raw.device_to_host_ns is not None and raw.device_to_host_ns > 0
    assert 0 < raw.inference_ns < 1e9


def test_without_a_graph_the_results_are_the_same_and_the_reason_is_given(
    small_fp16: BuildResult, batch: Float32Array
) -> None:
    with open_backend(small_fp16.engine) as with_graph:
        (expected,) = (array.copy() for array in with_graph.infer(batch).arrays)
    with open_backend(small_fp16.engine, cuda_graph=False) as without:
        (got,) = without.infer(batch).arrays
        assert [note for note in without.info.notes if "switched off" in note]
    np.testing.assert_array_equal(got, expected)


def test_its_own_input_buffer_is_taken_without_a_copy(
    small_fp16: BuildResult, small_onnx: Path, batch: Float32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_backend(small_fp16.engine) as backend:
        buffer = backend.input_buffer(batch.shape)
        assert buffer is not None and backend.input_buffer((2, *batch.shape[1:])) is None
        buffer[...] = batch
        with monkeypatch.context() as patch:
            patch.setattr(np, "copyto", lambda *_, **__: pytest.fail("copied"))
            raw = backend.infer(buffer)
        assert relative_error(raw.arrays[0], reference(small_onnx, batch)) < 5e-3
        assert raw.host_to_device_ns is not None and raw.host_to_device_ns > 0
    buffer[...] = 1


def test_each_input_gives_its_own_output(small_fp16: BuildResult, small_onnx: Path) -> None:
    rng = np.random.default_rng(3)
    with open_backend(small_fp16.engine) as backend:
        for _ in range(5):
            batch = rng.random((1, 3, SIDE, SIDE), np.float32)
            (output,) = backend.infer(batch).arrays
            assert relative_error(output, reference(small_onnx, batch)) < 5e-3


def test_dynamic_shapes_are_set_at_each_call(tmp_path: Path) -> None:
    onnx = write_network(tmp_path / "dynamic.onnx", dynamic=True)
    shapes = ShapeOptions(
        {"images": (1, 3, 32, 32)}, {"images": (1, 3, SIDE, SIDE)}, {"images": (4, 3, 2 * SIDE, 2 * SIDE)}
    )
    built = build_engine(BuildOptions(onnx=onnx, fp16=True, shapes=shapes, tactic_sources=TACTICS))
    rng = np.random.default_rng(5)
    with open_backend(built.engine) as backend:
        assert backend.info.inputs[0].shape == (None, 3, None, None)
        for shape in ((1, 3, SIDE, SIDE), (4, 3, SIDE, SIDE), (1, 3, 32, 96), (2, 3, 128, 128), (1, 3, SIDE, SIDE)):
            batch = rng.random(shape, np.float32)
            (output,) = backend.infer(batch).arrays
            assert output.shape == (shape[0], 14, shape[2] * shape[3] // 16)
            assert relative_error(output, reference(onnx, batch)) < 5e-3
        with pytest.raises(BackendError, match="--maxShapes"):
            backend.infer(np.zeros((5, 3, SIDE, SIDE), np.float32))
        (output,) = backend.infer(batch).arrays
        assert relative_error(output, reference(onnx, batch)) < 5e-3


def test_uint8_input(tmp_path: Path) -> None:
    onnx = write_network(tmp_path / "uint8.onnx", dtype="UINT8")
    built = build_engine(BuildOptions(onnx=onnx, fp16=True, tactic_sources=TACTICS))
    batch = np.random.default_rng(9).integers(0, 256, (1, 3, SIDE, SIDE), np.uint8)
    with open_backend(built.engine) as backend:
        assert backend.info.inputs[0].dtype == "uint8"
        (output,) = backend.infer(batch).arrays
    assert relative_error(output, reference(onnx, batch)) < 5e-3


def test_open_and_close_leave_no_device_memory_behind(small_fp16: BuildResult, batch: Float32Array) -> None:
    def cycles(count: int) -> None:
        for _ in range(count):
            with open_backend(small_fp16.engine) as backend:
                backend.infer(batch)

    cycles(10)
    assert left_behind(lambda: cycles(CYCLES)) <= BLOCK


def test_four_threads_take_turns(small_fp16: BuildResult, small_onnx: Path) -> None:
    batches = [np.random.default_rng(seed).random((1, 3, SIDE, SIDE), np.float32) for seed in range(4)]
    expected = [reference(small_onnx, batch) for batch in batches]
    lock = threading.Lock()
    with open_backend(small_fp16.engine) as backend, ThreadPoolExecutor(4) as pool:

        def work(index: int) -> float:
            worst = 0.0
            for _ in range(50):
                with lock:
                    output = backend.infer(batches[index]).arrays[0].copy()
                worst = max(worst, relative_error(output, expected[index]))
            return worst

        assert max(pool.map(work, range(4))) < 5e-3


def test_four_threads_at_once_do_not_break_it(small_fp16: BuildResult, batch: Float32Array) -> None:
    plan = FramePlan(InputSpec(SIDE, SIDE), "detr", False, 10)
    given = [frame("bgr8", 640, 480) for _ in range(4)]
    choice = ClassChoice(Thresholds(), tuple("0123456789"))
    with open_backend(small_fp16.engine) as backend, ThreadPoolExecutor(4) as pool:
        path = backend.frame_path(plan)
        assert path is not None and not isinstance(path, str)

        def raw(index: int) -> AnyArray:
            found = path.run([given[index % 4]], choice).found[0]
            assert not isinstance(found, Survivors)
            return found[0]

        expected = [raw(index) for index in range(4)]
        assert not np.array_equal(expected[0], expected[1])

        def both(index: int) -> AnyArray:
            # The plain way in between; what comes back from the short one is the caller's own.
            assert backend.infer(batch).inference_ns > 0
            return raw(index)

        for index, found in enumerate(pool.map(both, range(400))):
            np.testing.assert_array_equal(found, expected[index % 4])


def test_opened_in_one_thread_and_closed_in_another(small_fp16: BuildResult, batch: Float32Array) -> None:
    with ThreadPoolExecutor(1) as first:
        backend = first.submit(open_backend, small_fp16.engine).result()
        first.submit(backend.infer, batch).result()
    with ThreadPoolExecutor(1) as second:
        second.submit(backend.infer, batch).result()
        second.submit(backend.close).result()
    assert not backend.is_open


def test_two_backends_and_a_foreign_context_in_one_process(
    small_fp16: BuildResult, small_fp32: BuildResult, small_onnx: Path, batch: Float32Array
) -> None:
    import pycuda.driver as cuda

    expected = reference(small_onnx, batch)
    cuda.init()
    foreign = cuda.Device(0).make_context()
    try:
        values = np.arange(1000, dtype=np.float32)
        memory = cuda.mem_alloc(values.nbytes)
        cuda.memcpy_htod(memory, values)
        half, single = open_backend(small_fp16.engine), open_backend(small_fp32.engine)
        for _ in range(20):
            assert relative_error(half.infer(batch).arrays[0], expected) < 5e-3
            back = np.empty_like(values)
            cuda.memcpy_dtoh(back, memory)
            np.testing.assert_array_equal(back, values)
            assert relative_error(single.infer(batch).arrays[0], expected) < 2e-3
        half.close()
        assert relative_error(single.infer(batch).arrays[0], expected) < 2e-3
        single.close()
        assert cuda.Context.get_current() == foreign if hasattr(cuda.Context, "get_current") else True
        cuda.memcpy_htod(memory, values[::-1].copy())
        memory.free()
    finally:
        foreign.pop()
        foreign.detach()


def test_outputs_may_outlive_the_backend(small_fp16: BuildResult, batch: Float32Array) -> None:
    with open_backend(small_fp16.engine) as backend:
        (output,) = backend.infer(batch).arrays
        before = output.copy()
    np.testing.assert_array_equal(output, before)


def test_a_dropped_backend_frees_its_memory(small_fp16: BuildResult, batch: Float32Array) -> None:
    plan = FramePlan(InputSpec(SIDE, SIDE), "yolov8", True, 10)

    def drop() -> None:
        for _ in range(CYCLES // 2):
            backend = open_backend(small_fp16.engine)
            backend.infer(batch)
            path = backend.frame_path(plan)
            assert path is not None and not isinstance(path, str)
            del backend, path
            gc.collect()

    drop()
    assert left_behind(drop) <= BLOCK


def test_a_program_that_forgets_to_close_ends_without_a_word(small_fp16: BuildResult) -> None:
    program = f"""
import numpy as np
from pathlib import Path
from test.gpu.conftest import open_backend
backend = open_backend(Path({str(small_fp16.engine)!r}))
backend.infer(np.zeros((1, 3, {SIDE}, {SIDE}), np.float32))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_backend_that_is_dropped_in_a_thread_ends_without_a_word(small_fp16: BuildResult) -> None:
    program = f"""
import threading, numpy as np
from pathlib import Path
from test.gpu.conftest import open_backend
kept = []
def work():
    backend = open_backend(Path({str(small_fp16.engine)!r}))
    backend.infer(np.zeros((1, 3, {SIDE}, {SIDE}), np.float32))
    kept.append(backend)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
