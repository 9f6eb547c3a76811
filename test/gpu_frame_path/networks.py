"""The small network of test/gpu as the file that each backend takes, with the model file around it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from test.gpu.networks import SIDE, write_network
from trt_perception.model_file import Artifact, InputSpec, ModelFile
from trt_perception.types import Thresholds

LABELS = tuple("0123456789")


def write_torchscript(path: Path, *, batch: int = 0) -> Path:
    """The convolutions of the ONNX file; batch: the only one that it takes, 0 for any."""
    torch: Any = importlib.import_module("torch")
    onnx: Any = pytest.importorskip("onnx", reason="the onnx package makes the test's networks")
    graph = onnx.load(str(write_network(path.with_suffix(".onnx"), boxes=True))).graph
    weights = {w.name: torch.from_numpy(onnx.numpy_helper.to_array(w).copy()) for w in graph.initializer}
    layers: list[Any] = []
    for index, stride in enumerate((2, 2, 1)):
        kernel = weights[f"w{index}"]
        layers += [torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, stride, padding=1), torch.nn.ReLU()]
        layers[-2].weight.data, layers[-2].bias.data = kernel, weights[f"b{index}"]
    rows = int(weights["w2"].shape[0])

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(*layers)

        def forward(self, images: Any) -> Any:
            found = self.layers(images)
            return found.reshape(batch, rows, -1) if batch else found.flatten(2)

    example = torch.zeros(batch or 1, 3, SIDE, SIDE)
    torch.jit.trace(Network().eval(), example).save(str(path))
    return path


def write_artifact(backend: str, folder: Path, *, batch: int = 0) -> Artifact:
    """batch: of the network, 0 for any."""
    if backend == "torchscript":
        return Artifact(write_torchscript(folder / f"small{batch}.torchscript", batch=batch))
    path = write_network(folder / f"small{batch}.onnx", dynamic=batch != 1, boxes=True)
    if batch > 1:
        onnx: Any = importlib.import_module("onnx")
        network = onnx.load(str(path))
        for value in (*network.graph.input, *network.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        onnx.save(network, str(path))
    return Artifact(path)


def small_model(backend: str, artifact: Artifact, *, side: int = SIDE, head: str = "yolov8") -> ModelFile:
    """Its scores and boxes mean nothing, but there are many of them."""
    kind = "torchscript" if backend == "torchscript" else "onnx"
    given = InputSpec(side, side)
    return ModelFile("small", "detect", {kind: artifact}, given, head, LABELS, Thresholds(score=0.02))
