"""ONNX Runtime on the processor runs into memory that is used again, and only where that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.onnxruntime_backend import OnnxRuntimeBackend


def write(path: Path, nodes: list[Any], outputs: dict[str, list[Any]], batch: Any = 1) -> Path:
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", float32, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in outputs.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def opened(path: Path) -> OnnxRuntimeBackend:
    backend = OnnxRuntimeBackend(BackendRequest.parse("onnxruntime:cpu"), path)
    backend.open()
    return backend


def pictures(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((count, 3, 8, 8), np.float32)


RELU = helper.make_node("Relu", ["images"], ["same"])


def test_outputs_lie_in_the_same_memory_and_hold_the_newest_values(tmp_path: Path) -> None:
    with opened(write(tmp_path / "m.onnx", [RELU], {"same": [1, 3, 8, 8]})) as backend:
        backend.infer(pictures(1))
        places = set()
        for seed in range(4):
            batch = pictures(1, seed)
            (array,) = backend.infer(batch).arrays
            np.testing.assert_array_equal(array, batch)
            places.add(array.ctypes.data)
        assert len(places) == 1


def test_a_batch_that_is_written_anew_in_its_place_is_read_anew(tmp_path: Path) -> None:
    with opened(write(tmp_path / "m.onnx", [RELU], {"same": [1, 3, 8, 8]})) as backend:
        batch = pictures(1)
        for seed in range(3):
            batch[...] = pictures(1, seed)
            np.testing.assert_array_equal(backend.infer(batch).arrays[0], pictures(1, seed))


def test_batches_of_several_sizes_in_turn(tmp_path: Path) -> None:
    with opened(write(tmp_path / "m.onnx", [RELU], {"same": ["n", 3, 8, 8]}, batch="n")) as backend:
        for count in (1, 3, 1, 2, 3, *range(1, 12), 1, 11):
            batch = pictures(count, count)
            np.testing.assert_array_equal(backend.infer(batch).arrays[0], batch)


@pytest.mark.parametrize("declared", [["k", 4], ["n", 4]])
def test_an_output_whose_length_depends_on_the_picture(tmp_path: Path, declared: list[Any]) -> None:
    # As boxes that a graph has chosen; the second declaration is a lie that looks like a batch.
    chosen = helper.make_node("NonZero", ["rounded"], ["where"])
    nodes = [
        helper.make_node("Round", ["images"], ["rounded"]),
        chosen,
        helper.make_node("Transpose", ["where"], ["rows"], perm=[1, 0]),
        helper.make_node("Cast", ["rows"], ["found"], to=TensorProto.FLOAT),
    ]
    path = write(tmp_path / "m.onnx", [*nodes, RELU], {"found": declared, "same": ["n", 3, 8, 8]}, batch="n")
    with opened(path) as backend:
        for seed in range(4):
            batch = pictures(1, seed)
            found, same = backend.infer(batch).arrays
            np.testing.assert_array_equal(found, np.argwhere(np.round(batch)))
            np.testing.assert_array_equal(same, batch)


def test_close_and_open_again(tmp_path: Path) -> None:
    backend = opened(write(tmp_path / "m.onnx", [RELU], {"same": [1, 3, 8, 8]}))
    for seed in range(3):
        with backend:
            for _ in range(2):
                np.testing.assert_array_equal(backend.infer(pictures(1, seed)).arrays[0], pictures(1, seed))
