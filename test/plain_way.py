"""The plain way around a network, one step at a time: the reference for what the package does in fewer passes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.model_file import InputSpec, NetworkColor
from trt_perception.placement import NetworkToImage, place
from trt_perception.types import ColorOrder, Detections, Float32Array, Image, Int64Array, Thresholds, Uint8Array


def plain_tensor(spec: InputSpec, image: Image) -> tuple[Float32Array, NetworkToImage]:
    """A BGR picture to an RGB network's input: resized, put on a canvas, and then calculated with in float64."""
    assert image.color_order == "bgr" and spec.color_order == "rgb"
    where, way_back = place(spec, image.width, image.height)
    resized = cv2.resize(image.pixels, (where.resized_width, where.resized_height), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
    canvas[where.top :, where.left :][: where.resized_height, : where.resized_width] = resized
    values = (canvas[:, :, ::-1].astype(np.float64) * spec.scale - np.array(spec.mean)) / np.array(spec.std)
    return values.transpose(2, 0, 1)[np.newaxis].astype(np.float32), way_back


def plain_input(spec: InputSpec, image: Image) -> Float32Array:
    """The same for every colour order, in the float32 steps that the package promises: equal to the last bit."""
    where, _ = place(spec, image.width, image.height)
    size = where.resized_width, where.resized_height
    resized = np.asarray(cv2.resize(image.pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8).reshape(
        *size[::-1], -1
    )
    part = resized[where.crop_y :, where.crop_x :][: spec.height, : spec.width]
    colors = _in_order(part, image.color_order, spec.color_order)
    canvas = np.full((spec.height, spec.width, spec.channels), spec.pad_value, np.uint8)
    canvas[where.top :, where.left :][: part.shape[0], : part.shape[1]] = colors
    std = np.asarray(spec.std, np.float32)[: spec.channels]
    factor, shift = np.float32(spec.scale) / std, -np.asarray(spec.mean, np.float32)[: spec.channels] / std
    values = canvas.astype(np.float32) * factor + shift
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])


def _in_order(pixels: Uint8Array, order: ColorOrder, wanted: NetworkColor) -> Uint8Array:
    if order == wanted or (order == "gray" and wanted != "gray"):
        return np.broadcast_to(pixels, (*pixels.shape[:2], 1 if wanted == "gray" else 3))
    code = getattr(cv2, f"COLOR_{order.upper()}2{wanted.upper()}")
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8).reshape(*pixels.shape[:2], -1)


def plain_detections(output: Float32Array, thresholds: Thresholds, way_back: NetworkToImage) -> Detections:
    """Outputs of the yolov8 head: every anchor is decoded, then suppressed one box after the other."""
    prediction = output[0].astype(np.float64)
    center_x, center_y, width, height = prediction[:4]
    corners = (center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2)
    boxes = np.stack(corners, axis=1)
    scores, class_ids = prediction[4:].max(axis=0), prediction[4:].argmax(axis=0)
    above = np.flatnonzero(scores > thresholds.score)
    kept = above[plain_nms(boxes[above], scores[above], class_ids[above], thresholds.iou)][: thresholds.max_detections]
    offset = np.array([way_back.offset_x, way_back.offset_y] * 2)
    scale = np.array([way_back.scale_x, way_back.scale_y] * 2)
    limit = [way_back.image_width, way_back.image_height] * 2
    mapped = np.clip((boxes[kept] - offset) / scale, 0, limit)
    return Detections(mapped.astype(np.float32), scores[kept].astype(np.float32), class_ids[kept])


def plain_nms(boxes: NDArray[Any], scores: NDArray[Any], class_ids: Int64Array, iou_threshold: float) -> list[int]:
    """Greedy suppression in each class, the best box first."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if all(class_ids[i] != class_ids[j] or iou(boxes[i], boxes[j]) <= iou_threshold for j in kept):
            kept.append(i)
    return kept


def iou(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union of two boxes; 1 for two equal ones without area."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common
    return common / union if union > 0 else float((one == other).all())
