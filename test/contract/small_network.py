"""A network small enough to be computed by hand: a convolution, its rectified result, and the means of that.

Every artifact holds the same weights, and `expected` computes the same with NumPy alone.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trt_perception.types import Float32Array

if TYPE_CHECKING:
    import torch

SIDE_PX = 8
METADATA = {"names": "{0: 'a'}", "task": "detect", "origin": "the contract tests"}
_random = np.random.default_rng(2)
WEIGHT: Float32Array = _random.standard_normal((4, 3, 3, 3)).astype(np.float32)
BIAS: Float32Array = _random.standard_normal(4).astype(np.float32)


def batch_of(count: int, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).standard_normal((count, 3, SIDE_PX, SIDE_PX)).astype(np.float32)


def expected(batch: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Convolution with stride 2 and a border of one zero, rectified: (N, 4, 4, 4); and its means: (N, 4)."""
    bordered = np.pad(batch.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = SIDE_PX // 2
    features = np.zeros((len(batch), 4, side, side))
    for image, channel, y, x in np.ndindex(*features.shape):
        patch = bordered[image, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
        features[image, channel, y, x] = max((patch * WEIGHT[channel]).sum() + BIAS[channel], 0)
    return features.astype(np.float32), features.mean(axis=(2, 3)).astype(np.float32)


def write_torchscript(path: Path) -> None:
    import torch

    module = torch.jit.trace(_network(), torch.zeros(1, 3, SIDE_PX, SIDE_PX))  # type: ignore[no-untyped-call]
    torch.jit.save(module, str(path), _extra_files={"config.txt": json.dumps(METADATA)})


def write_onnx(path: Path) -> None:
    import onnx
    import torch

    outputs = ["features", "means"]
    with warnings.catch_warnings():
        # The exporter that needs no further package is called legacy by torch.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            _network(),
            (torch.zeros(1, 3, SIDE_PX, SIDE_PX),),
            str(path),
            opset_version=17,
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ("images", *outputs)},
            dynamo=False,
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, METADATA)
    onnx.save(model, str(path))


def _network() -> torch.nn.Module:
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.convolution.weight = torch.nn.Parameter(torch.from_numpy(WEIGHT.copy()))
            self.convolution.bias = torch.nn.Parameter(torch.from_numpy(BIAS.copy()))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features = torch.relu(self.convolution(images))
            return features, features.mean((2, 3))

    return Network().eval()
