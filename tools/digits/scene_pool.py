"""Scenes in the training device's memory: composing them takes the host longer than learning from them takes a GPU.

Every scene is learned from as soon as it is composed; between two new batches an old one is shown again, with another
light and other noise. On a CPU, where composing is the faster part, hardly any is.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tools.digits.data import Batch, TrainingStream
from tools.digits.loss import Targets

_MOST_WAITING = 8
_LARGEST_NOISE_SIGMA = 8.0 / 255.0
_GAIN_SPREAD = 0.15
_OFFSET_SPREAD = 0.075


class ScenePool:
    """The newest batches of a stream, on the device; a thread takes them from the processes that compose them."""

    def __init__(self, batches: Iterator[Batch], device: torch.device, capacity_bytes: int, seed: int) -> None:
        self.composed = self.repeated = 0
        self._batches = batches
        self._device = device
        self._capacity_bytes = capacity_bytes
        self._bytes = 0
        self._random = random.Random(seed)
        self._fresh: list[Batch] = []
        self._old: list[Batch] = []
        self._changed = threading.Condition()
        self._closed = False
        self._failure: BaseException | None = None

    def take(self) -> Batch:
        """A batch nobody has seen if there is one, else any other; waits for the first. Raises what composing did."""
        with self._changed:
            self._changed.wait_for(lambda: self._fresh or self._old or self._failure is not None)
            if self._failure is not None:
                raise self._failure
            if not self._fresh:
                self.repeated += 1
                return self._random.choice(self._old)
            batch = self._fresh.pop(0)
            self._old.append(batch)
            self._changed.notify_all()
            return batch

    def fill(self) -> None:
        """What the thread does, until close()."""
        try:
            while not self._closed:
                moved = to_device(next(self._batches), self._device)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or len(self._fresh) < _MOST_WAITING)
                    self._fresh.append(moved)
                    self._bytes += moved.images_rgb.nbytes
                    self.composed += len(moved.images_rgb)
                    while self._bytes > self._capacity_bytes and self._old:
                        self._bytes -= self._old.pop(0).images_rgb.nbytes
                    self._changed.notify_all()
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def close(self) -> None:
        """Ends the thread after the batch that it is waiting for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@contextmanager
def scene_pool(
    data: Path, *, batch_size: int, workers: int, seed: int, device: torch.device, capacity_bytes: int
) -> Iterator[ScenePool]:
    """A pool that is being filled by `workers` processes. data: the .npz that split.py wrote."""
    loader = DataLoader(TrainingStream(data, batch_size, seed), batch_size=None, num_workers=workers)
    pool = ScenePool(iter(loader), device, capacity_bytes, seed)
    thread = threading.Thread(target=pool.fill, name="scenes", daemon=True)
    thread.start()
    try:
        yield pool
    finally:
        pool.close()
        thread.join()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch in the device's memory."""
    targets = batch.targets
    moved = Targets(targets.boxes_cxcywh.to(device), targets.class_ids.to(device), targets.present.to(device))
    return replace(batch, images_rgb=batch.images_rgb.to(device), targets=moved)


def as_seen(images_rgb: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) to float32 from 0 to 1 in a light and with a sensor's noise of each image's own."""
    images = images_rgb.float() / 255.0

    def spread(*shape: int) -> Tensor:
        return 2 * torch.rand(len(images), *shape, device=images.device) - 1

    gain, offset = 1 + _GAIN_SPREAD * spread(3, 1, 1), _OFFSET_SPREAD * spread(1, 1, 1)
    sigma = _LARGEST_NOISE_SIGMA * spread(1, 1, 1).abs()
    seen = (images * gain + offset + torch.randn_like(images) * sigma).clamp(0.0, 1.0)
    return seen.contiguous(memory_format=torch.channels_last)
