"""The measured network as TorchScript: the ONNX file's own nodes and weights, one torch call a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def write_torchscript(onnx_path: Path) -> Path:
    """Writes `<name>.torchscript` beside the ONNX file and returns its path."""
    import torch

    target = onnx_path.with_suffix(".torchscript")
    module = _module(onnx_path)
    with torch.no_grad():
        traced: Any = torch.jit.trace(module, torch.zeros(1, 3, 640, 640))  # type: ignore[no-untyped-call]
    traced.save(str(target))
    return target


def _module(onnx_path: Path) -> torch.nn.Module:
    import onnx
    import torch
    from onnx import helper, numpy_helper

    graph = onnx.load(str(onnx_path)).graph
    arrays = {entry.name: np.array(numpy_helper.to_array(entry)) for entry in graph.initializer}
    functional = torch.nn.functional
    kinds: dict[str, Any] = {
        "Sigmoid": lambda v, a: torch.sigmoid(v[0]),
        "Tanh": lambda v, a: torch.tanh(v[0]),
        "Mul": lambda v, a: v[0] * v[1],
        "Add": lambda v, a: v[0] + v[1],
        "Identity": lambda v, a: v[0].clone(),
        "Concat": lambda v, a: torch.cat(v, dim=a["axis"]),
        "Transpose": lambda v, a: v[0].permute(a["perm"]),
        "Conv": lambda v, a: functional.conv2d(v[0], v[1], v[2], stride=a["strides"], padding=a["pads"][0]),
        "Reshape": lambda v, a: v[0].reshape(v[1]),
        "Split": lambda v, a: v[0].split(v[1], dim=a["axis"]),
    }

    class Nodes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, array in arrays.items():
                if array.dtype == np.float32:
                    self.register_buffer(name, torch.from_numpy(array))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            values: dict[str, Any] = {"images": images}
            for name, array in arrays.items():
                values[name] = getattr(self, name) if array.dtype == np.float32 else array.tolist()
            for node in graph.node:
                attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                result = kinds[node.op_type]([values[name] for name in node.input], attributes)
                results = result if len(node.output) > 1 else [result]
                values.update(zip(node.output, results, strict=True))
            output: torch.Tensor = values["output0"]
            return output

    return Nodes().eval()
