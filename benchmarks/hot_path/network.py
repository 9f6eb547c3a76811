"""Writes the networks that are measured: random weights, the amount of work and the outputs of a real detector.

The weights are drawn from a fixed seed, and what the network "finds" is added to its outputs as constants: decoding
and suppression have as much to do as behind a trained network, on every frame and for every picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_perception.model_file import Artifact, InputSpec, ModelFile
from trt_perception.model_writer import write_model_file
from trt_perception.types import Thresholds

SIDE_PX = 640
CLASSES = 80
STRIDES = (8, 16, 32)
# Every frame has this many objects, each with this many candidates: 20 boxes out of 200.
OBJECTS = 20
CANDIDATES_EACH = 10
THRESHOLDS = Thresholds(score=0.25, iou=0.45)
# Objects lie between these rows of the input, which a picture of 16:9 fills too.
_TOP_PX, _BOTTOM_PX = 150, 490


@dataclass(frozen=True)
class Network:
    """What was written: the model file, the ONNX file and the work of one image in 10^9 operations."""

    model: Path
    onnx: Path
    gflop: float


@dataclass(frozen=True)
class _Layout:
    """How a head's outputs lie: box noise in the unit of its rows, rows before the classes, the head's name."""

    head: str
    box_noise: float
    leading_rows: int
    anchors_first: bool


_LAYOUTS = {"yolov8": _Layout("yolov8", 2.0, 4, False), "yolox": _Layout("yolox", 0.05, 5, True)}


def write_network(
    folder: Path, *, layout: str = "yolov8", objects: int = OBJECTS, with_layers: bool = True, free_batch: bool = False
) -> Network:
    """Writes `<folder>/<name>.onnx` and `.yaml`.

    layout: yolov8, (1, 84, 8400), or yolox, (1, 8400, 85). with_layers: False leaves the convolutions out, so that
    inference takes next to nothing. free_batch: the batch axis is free.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    name = f"{layout}_{objects}{'' if with_layers else '_light'}{'_batch' if free_batch else ''}"
    form = _LAYOUTS[layout]
    rows = form.leading_rows + CLASSES
    graph = _Graph()
    levels = graph.layers(rows) if with_layers else [graph.mean(rows, (SIDE_PX // s) ** 2) for s in STRIDES]
    raw = graph.add("Concat", levels, axis=2)
    boxes, scores = graph.split(raw, form.leading_rows, CLASSES)
    noise = graph.add("Mul", [graph.add("Tanh", [boxes]), graph.constant(np.float32(form.box_noise))])
    faint = graph.add("Mul", [graph.add("Sigmoid", [scores]), graph.constant(np.float32(0.1))])
    joined = graph.add("Concat", [noise, faint], axis=1)
    found = graph.add("Add", [joined, graph.constant(_planted(layout, objects)[None])])
    if form.anchors_first:
        found = graph.add("Transpose", [found], perm=[0, 2, 1])
    graph.add("Identity", [found], output="output0")
    cells = sum((SIDE_PX // s) ** 2 for s in STRIDES)
    batch: Any = "batch" if free_batch else 1
    shape = [batch, cells, rows] if form.anchors_first else [batch, rows, cells]
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            name,
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE_PX, SIDE_PX])],
            [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(array, key) for key, array in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(proto)
    folder.mkdir(parents=True, exist_ok=True)
    onnx_path, model_path = folder / f"{name}.onnx", folder / f"{name}.yaml"
    onnx.save(proto, str(onnx_path))
    model_path.unlink(missing_ok=True)
    labels = tuple(f"class {i}" for i in range(CLASSES))
    model = ModelFile(
        name, "detect", {"onnx": Artifact(onnx_path)}, InputSpec(SIDE_PX, SIDE_PX), form.head, labels, THRESHOLDS
    )
    write_model_file(model_path, model)
    return Network(model_path, onnx_path, 2 * graph.multiply_adds / 1e9)


class _Graph:
    """Nodes and constants as they are added; every value's name is that of its node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.multiply_adds = 0
        self._random = np.random.default_rng(640)

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def conv(self, value: str, shape: tuple[int, int, int], side: int, stride: int = 1, activate: bool = True) -> str:
        """shape: channels in, channels out, side of the kernel; side: of the output in pixels."""
        into, out, kernel = shape
        deviation = 1.4 / np.sqrt(into * kernel * kernel)
        weights = self._random.normal(0, deviation, (out, into, kernel, kernel)).astype(np.float32)
        self.multiply_adds += side * side * weights.size
        inputs = [value, self.constant(weights), self.constant(np.zeros(out, np.float32))]
        name = self.add("Conv", inputs, strides=[stride] * 2, pads=[kernel // 2] * 4)
        return self.add("Mul", [name, self.add("Sigmoid", [name])]) if activate else name

    def layers(self, rows: int) -> list[str]:
        """About what YOLOv8n does: four stages of 3x3 convolutions, a head on each of the last three."""
        value = self.conv("images", (3, 16, 3), 320, stride=2)
        levels = []
        channels = 16
        for side, residuals in ((160, 2), (80, 4), (40, 4), (20, 3)):
            value = self.conv(value, (channels, 2 * channels, 3), side, stride=2)
            channels *= 2
            for _ in range(residuals):
                value = self.add("Add", [value, self.conv(value, (channels, channels, 3), side)])
            if side < 160:
                head = self.conv(self.conv(value, (channels, 64, 3), side), (64, 64, 3), side)
                levels.append(self.flat(self.conv(head, (64, rows, 1), side, activate=False), rows, side * side))
        return levels

    def flat(self, value: str, rows: int, cells: int) -> str:
        return self.add("Reshape", [value, self.constant(np.array([-1, rows, cells], np.int64))])

    def mean(self, rows: int, cells: int) -> str:
        """(batch, rows, cells), all the same: the pictures' mean, so that nothing can be folded away."""
        mean = self.add("GlobalAveragePool", ["images"])
        one = self.add("ReduceMean", [mean], axes=[1, 2, 3], keepdims=1)
        flat = self.add("Reshape", [one, self.constant(np.array([-1, 1, 1], np.int64))])
        return self.add("Mul", [flat, self.constant(np.ones((1, rows, cells), np.float32))])

    def split(self, value: str, first: int, second: int) -> tuple[str, str]:
        from onnx import helper

        name = f"split_{len(self.nodes)}"
        sizes = self.constant(np.array([first, second], np.int64))
        outputs = [f"{name}_boxes", f"{name}_scores"]
        self.nodes.append(helper.make_node("Split", [value, sizes], outputs, name=name, axis=1))
        return outputs[0], outputs[1]


def _planted(layout: str, objects: int) -> NDArray[np.float32]:
    """float32 (rows, cells): what is added to the faint noise of the layers, above all the objects."""
    random = np.random.default_rng(84)
    centers, strides = _cells()
    size = np.repeat(4.0 * strides[None], 2, axis=0)
    boxes = np.concatenate((centers, size))
    scores = np.zeros((CLASSES, strides.size))
    columns = int(np.ceil(np.sqrt(objects * 1.25)))
    lines = -(-objects // columns)
    pitch = np.array([SIDE_PX / columns, (_BOTTOM_PX - _TOP_PX) / lines])
    for index in range(objects):
        line, column = divmod(index, columns)
        center = (np.array([column, line]) + 0.5) * pitch + [0, _TOP_PX]
        for cell in _cells_around(center):
            boxes[:2, cell] = center + random.uniform(-1, 1, 2)
            boxes[2:, cell] = 0.8 * pitch * random.uniform(0.95, 1.05, 2)
            scores[(index * 7) % CLASSES, cell] = random.uniform(0.4, 0.85)
    if layout == "yolov8":
        return np.concatenate((boxes, scores)).astype(np.float32)
    cell_corner = centers / strides - 0.5
    relative = np.concatenate((boxes[:2] / strides - cell_corner, np.log(boxes[2:] / strides)))
    return np.concatenate((relative, np.where(scores.any(axis=0), 1.0, 0.05)[None], scores)).astype(np.float32)


def _cells() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (2, cells) and strides (cells,) in pixels, the finest grid first, row by row."""
    centers, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: SIDE_PX // stride, : SIDE_PX // stride]
        centers.append((np.stack((columns.ravel(), rows.ravel())) + 0.5) * stride)
        strides.append(np.full(rows.size, float(stride)))
    return np.concatenate(centers, axis=1), np.concatenate(strides)


def _cells_around(center: NDArray[np.float64]) -> list[int]:
    """Two rows of five neighbouring cells of the finest grid."""
    column, row = (center // STRIDES[0]).astype(int)
    per_row = SIDE_PX // STRIDES[0]
    return [int((row + y) * per_row + column + x) for y in range(2) for x in range(-2, CANDIDATES_EACH // 2 - 2)]
