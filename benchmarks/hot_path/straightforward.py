"""The straightforward way: what people write around a YOLO network with OpenCV and NumPy.

It is the yardstick of this benchmark, and stays as it is.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def preprocess(frame: NDArray[np.uint8], side: int) -> tuple[NDArray[np.float32], float, int, int]:
    """A BGR frame to the float32 (1, 3, side, side) blob, with the scale and the offsets of the letterbox."""
    height, width = frame.shape[:2]
    scale = min(side / width, side / height)
    new_width, new_height = round(width * scale), round(height * scale)
    resized = cv2.resize(frame, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    left, top = (side - new_width) // 2, (side - new_height) // 2
    padded = cv2.copyMakeBorder(
        resized,
        top,
        side - new_height - top,
        left,
        side - new_width - left,
        cv2.BORDER_CONSTANT,
        value=(114, 114, 114),
    )
    blob: Any = cv2.dnn.blobFromImage(padded, 1 / 255.0, (side, side), swapRB=True, crop=False)
    return blob, scale, left, top


def postprocess(
    output: NDArray[np.float32], scale: float, left: int, top: int, score_threshold: float, iou_threshold: float
) -> list[tuple[list[float], float, int]]:
    """The (1, 4 + classes, anchors) output to a list of ([x, y, width, height] in the frame, score, class)."""
    predictions = np.squeeze(output).T
    class_scores = predictions[:, 4:]
    class_ids = np.argmax(class_scores, axis=1)
    scores = np.max(class_scores, axis=1)
    keep = scores > score_threshold
    predictions, scores, class_ids = predictions[keep], scores[keep], class_ids[keep]
    boxes = predictions[:, :4].copy()
    boxes[:, 0] = (boxes[:, 0] - boxes[:, 2] / 2 - left) / scale
    boxes[:, 1] = (boxes[:, 1] - boxes[:, 3] / 2 - top) / scale
    boxes[:, 2:] /= scale
    indices = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), score_threshold, iou_threshold)
    return [(boxes[i].tolist(), float(scores[i]), int(class_ids[i])) for i in np.array(indices).flatten()]
