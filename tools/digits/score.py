"""Scores a network on held-out scenes, through the package's own preprocessing, decoding and suppression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tools.digits.export import ExportedNet
from trt_perception.class_choice import ClassChoice
from trt_perception.evaluation import MeanAveragePrecision, mean_average_precision
from trt_perception.heads import HeadContext, head_for
from trt_perception.model_file import InputSpec
from trt_perception.postprocess import postprocess
from trt_perception.preprocess import Preprocessor
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Detections, Image, Thresholds

Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Input float32 (1, 3, 320, 320) to raw output float32 (1, 14, 2100)."""

HELDOUT_SEED = 2024

# Low enough to draw the whole precision curve; a detector in use has a far higher one.
_THRESHOLDS = Thresholds(score=0.01, iou=0.6, max_detections=100)


def heldout_map(
    infer: Infer, spec: InputSpec, class_count: int, *, count: int, width: int, height: int
) -> MeanAveragePrecision:
    """Returns the mean average precision on `count` held-out scenes of width x height pixels."""
    preprocessor, head = Preprocessor(spec), head_for("yolov8")
    context = HeadContext(spec.width, spec.height, class_count)
    choice = ClassChoice(_THRESHOLDS, [str(index) for index in range(class_count)])
    found: list[Detections] = []
    scenes = list(heldout_scenes(count, width, height, HELDOUT_SEED))
    for scene in scenes:
        tensor, way_back = preprocessor(Image(scene.image_bgr, "bgr"))
        found.append(postprocess([infer(tensor)], head, context, choice, way_back))
    return mean_average_precision(found, scenes)


def torch_infer(network: ExportedNet) -> Infer:
    """Wraps a network on the CPU."""

    def infer(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            output: NDArray[np.float32] = network(torch.from_numpy(tensor)).numpy()
        return output

    return infer
