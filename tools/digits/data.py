"""An endless stream of training batches: varied digits on varied, cluttered photographs, letterboxed at times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tools.digits.loss import Targets
from trt_perception.scenes import DigitSet, Scene, SceneStyle, compose_scene

SIDE_PX = 320
LETTERBOX_GREY = 114

# Wider than the scenes of the demo on every axis, so that those lie well inside what was learned.
TRAINING_STYLE = SceneStyle(
    digit_count=(0, 8),
    ink_height_px=(11.0, 150.0),
    aspect=(0.7, 1.35),
    rotation_deg=20.0,
    shear=0.2,
    blur_share=(0.0, 0.04),
    contrast_luma=(35.0, 180.0),
    opacity=(0.75, 1.0),
    noise_sigma=(0.0, 0.0),  # added later, for a whole batch at once
)
_SIDES_PX = (160, 224, SIDE_PX)
_SIDE_SHARES = (0.6, 0.25, 0.15)  # small pictures hold more digits per second of training
_VARIANTS_PER_DIGIT = 24
_LARGER_SHARE = 0.1
_LETTERBOX_SHARE = 0.35
_CLUTTER_SHARE = 0.6
_PLAIN_SHARE = 0.15


@dataclass(frozen=True)
class Batch:
    """images_rgb: uint8 (B, 3, side, side). targets: boxes in pixels of the images."""

    images_rgb: Tensor
    targets: Targets


class TrainingStream(IterableDataset[Batch]):
    """Composes batches without end; each worker process has random numbers of its own, all derived from the seed.

    path: the .npz that split.py wrote. batch_size: scenes per batch at 320x320; batches of smaller scenes hold more of
    them, so that each has about as many pixels.
    """

    def __init__(self, path: Path, batch_size: int, seed: int) -> None:
        super().__init__()
        # The workers are the parallelism; and OpenCV 5's threads, once started, leave forked workers waiting forever.
        cv2.setNumThreads(1)
        self._batch_size = batch_size
        self._seed = seed
        with np.load(path) as archive:
            samples = DigitSet(images=archive["images"], labels=archive["labels"].astype(np.int64))
            self._photos = [archive[name] for name in archive.files if name.startswith("photo_")]
        self._digits = vary_digits(np.random.default_rng(seed), samples)

    def __iter__(self) -> Iterator[Batch]:
        """Starts this worker's stream."""
        worker = get_worker_info()
        rng = np.random.default_rng([self._seed, worker.id if worker else 0])
        while True:
            side_px = int(rng.choice(_SIDES_PX, p=_SIDE_SHARES))
            count = round(self._batch_size * (SIDE_PX / side_px) ** 2)
            yield to_batch([self._scene(rng, side_px) for _ in range(count)])

    def _scene(self, rng: np.random.Generator, side_px: int) -> Scene:
        ground = _ground(rng, self._photos, side_px)
        width = height = side_px
        if rng.random() < _LETTERBOX_SHARE:
            short = int(rng.integers(side_px // 2, side_px))
            width, height = (width, short) if rng.random() < 0.7 else (short, height)
        zoom = 2 if rng.random() < _LARGER_SHARE else 1
        low, high = TRAINING_STYLE.ink_height_px
        style = replace(TRAINING_STYLE, ink_height_px=(low * zoom, high * zoom))
        scene = compose_scene(rng, self._digits, [ground], width * zoom, height * zoom, style)
        return _letterbox(scene, side_px, zoom)


def vary_digits(rng: np.random.Generator, samples: DigitSet) -> DigitSet:
    """Makes slightly bent, thinner and thicker copies of each 8x8 digit: 24 of each, the first as it is."""
    images, labels = [], []
    y, x = np.mgrid[0:8, 0:8].astype(np.float32)
    for image, label in zip(samples.images, samples.labels, strict=True):
        images.append(image)
        for _ in range(_VARIANTS_PER_DIGIT - 1):
            bend = rng.normal(0.0, 0.28, (2, 3, 3)).astype(np.float32)
            shift_x, shift_y = (cv2.resize(field, (8, 8), interpolation=cv2.INTER_CUBIC) for field in bend)
            bent = cv2.remap(image.astype(np.float32), x + shift_x, y + shift_y, cv2.INTER_LINEAR)
            ink = (bent / 16.0) ** rng.uniform(0.65, 1.5)
            images.append(np.rint(ink / max(float(ink.max()), 1e-3) * 16.0).astype(np.uint8))
        labels.extend([int(label)] * _VARIANTS_PER_DIGIT)
    return DigitSet(images=np.stack(images), labels=np.array(labels, np.int64))


def to_batch(scenes: Sequence[Scene]) -> Batch:
    """Stacks scenes of one size; pads their boxes to the largest number, at least one."""
    images = np.stack([np.ascontiguousarray(scene.image_bgr[:, :, ::-1].transpose(2, 0, 1)) for scene in scenes])
    most = max(1, *(len(scene.class_ids) for scene in scenes))
    boxes = np.zeros((len(scenes), most, 4), np.float32)
    class_ids = np.zeros((len(scenes), most), np.int64)
    present = np.zeros((len(scenes), most), np.bool_)
    for row, scene in enumerate(scenes):
        count = len(scene.class_ids)
        low, high = scene.boxes_xyxy[:, :2], scene.boxes_xyxy[:, 2:]
        boxes[row, :count] = np.hstack([(low + high) / 2, high - low])
        class_ids[row, :count] = scene.class_ids
        present[row, :count] = True
    targets = Targets(torch.from_numpy(boxes), torch.from_numpy(class_ids), torch.from_numpy(present))
    return Batch(torch.from_numpy(images), targets)


def _letterbox(scene: Scene, side_px: int, zoom: int) -> Scene:
    height, width = scene.image_bgr.shape[0] // zoom, scene.image_bgr.shape[1] // zoom
    resized = cv2.resize(scene.image_bgr, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((side_px, side_px, 3), LETTERBOX_GREY, np.uint8)
    left, top = (side_px - width) // 2, (side_px - height) // 2
    canvas[top : top + height, left : left + width] = resized
    boxes = scene.boxes_xyxy / zoom + np.array([left, top, left, top], np.float32)
    return replace(scene, image_bgr=canvas, boxes_xyxy=boxes.astype(np.float32))


def _ground(rng: np.random.Generator, photos: Sequence[NDArray[np.uint8]], side_px: int) -> NDArray[np.uint8]:
    """Returns a part of a photograph, recoloured, or a plain gradient, at times with shapes scribbled on it."""
    if rng.random() < _PLAIN_SHARE:
        corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
        ground = np.asarray(cv2.resize(corners, (side_px, side_px)), dtype=np.uint8)
    else:
        photo = photos[int(rng.integers(len(photos)))]
        tones = np.clip(np.arange(256)[:, None] * rng.uniform(0.6, 1.3, 3) + rng.uniform(-30, 30, 3), 0, 255)
        height, width = (min(side, int(side_px * rng.uniform(1.0, 2.2))) for side in photo.shape[:2])
        top, left = int(rng.integers(photo.shape[0] - height + 1)), int(rng.integers(photo.shape[1] - width + 1))
        mixed = np.ascontiguousarray(photo[top : top + height, left : left + width, rng.permutation(3)])
        ground = np.asarray(cv2.LUT(mixed, tones.astype(np.uint8)[None]), dtype=np.uint8)
    if rng.random() < _CLUTTER_SHARE:
        _scribble(rng, ground)
    return ground


def _scribble(rng: np.random.Generator, image: NDArray[np.uint8]) -> None:
    """Draws lines, ellipses and polygons that are no digits, in place."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 14))):
        color = tuple(float(v) for v in rng.integers(0, 256, 3))
        thickness = int(rng.choice([-1, 1, 2, 4, 8]))
        x, y = int(rng.integers(width)), int(rng.integers(height))
        reach = int(rng.integers(8, 120))
        if rng.random() < 0.3:
            axes = (max(2, reach // 2), max(2, int(reach * rng.uniform(0.1, 0.5))))
            # Filled or half open: a whole thin ring would be a zero.
            end_deg = 360.0 if thickness < 0 else rng.uniform(60, 200)
            cv2.ellipse(image, (x, y), axes, rng.uniform(0, 360), 0, end_deg, color, thickness, cv2.LINE_AA)
            continue
        corners = np.array([x, y]) + rng.integers(-reach, reach + 1, (int(rng.integers(3, 6)), 2))
        if thickness < 0:
            cv2.fillConvexPoly(image, corners[:3].astype(np.int32), color, cv2.LINE_AA)
        else:
            # Long straight lines: short ones would be ones.
            far = (int(x + rng.choice([-1, 1]) * rng.integers(150, 400)), int(y + rng.integers(-300, 300)))
            cv2.line(image, (x, y), far, color, thickness, cv2.LINE_AA)
