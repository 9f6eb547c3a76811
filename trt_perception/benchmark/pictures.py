"""The pictures that every backend of a comparison gets, and what is truly in them where that is known."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trt_perception.benchmark.labels import Truth, read_labels
from trt_perception.errors import ImageError
from trt_perception.model_file import ModelFile
from trt_perception.scenes import heldout_scenes
from trt_perception.sources import open_source
from trt_perception.types import Uint8Array

SHIPPED = "shipped scenes"
_SCENE_COUNT = 16
_SCENE_SIZE = (640, 480)
_SCENE_SEED = 20
_DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Pictures:
    """names and pixels (uint8 BGR, (height, width, 3)) belong together; truths: one entry a picture, or None."""

    source: str
    names: tuple[str, ...]
    pixels: tuple[Uint8Array, ...]
    truths: tuple[Truth, ...] | None

    def sha256(self) -> str:
        """Hash of all pixels and sizes, in lower-case hexadecimal: two runs with the same one saw the same."""
        digest = hashlib.sha256()
        for picture in self.pixels:
            digest.update(repr(picture.shape).encode())
            digest.update(np.ascontiguousarray(picture).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> list[str]:
        """Writes each picture as an .npy file, which any interpreter reads alike; returns the paths."""
        paths = [folder / f"picture{index}.npy" for index in range(len(self.pixels))]
        for path, picture in zip(paths, self.pixels, strict=True):
            np.save(path, picture)
        return [str(path) for path in paths]


def gather_pictures(source: str | None, limit: int, model: ModelFile, labels: Path | None) -> Pictures:
    """The user's pictures (as `detect` takes them), or the shipped scenes where source is None.

    limit: of pictures, which stay in memory. The shipped scenes bring their own labels to a model of digits. Raises
    ImageError where there is nothing to read, PerceptionError for labels that do not fit.
    """
    if source is None and labels is None:
        scenes = list(heldout_scenes(min(_SCENE_COUNT, limit), *_SCENE_SIZE, _SCENE_SEED))
        names = tuple(f"scene {index}" for index in range(len(scenes)))
        truths = tuple(Truth(scene.boxes_xyxy, scene.class_ids) for scene in scenes)
        pixels = tuple(scene.image_bgr for scene in scenes)
        return Pictures(SHIPPED, names, pixels, truths if model.labels == _DIGITS else None)
    if source is None:
        raise ImageError("labels were given without the pictures that they belong to; give --images too")
    with open_source(source) as opened:
        taken = list(itertools.islice(opened.pictures, limit))
    names, pixels = tuple(name for name, _ in taken), tuple(picture for _, picture in taken)
    found = read_labels(labels, names, _sizes(pixels), model.labels) if labels is not None else None
    return Pictures(source, names, pixels, found)


def _sizes(pixels: Sequence[Uint8Array]) -> list[tuple[int, int]]:
    return [(int(picture.shape[1]), int(picture.shape[0])) for picture in pixels]
