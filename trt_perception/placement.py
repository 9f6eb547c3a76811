"""Where a camera picture lies in a network's input, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from trt_perception.errors import ImageError
from trt_perception.model_file import InputSpec
from trt_perception.types import Float32Array

# Of a picture before it is cropped: 200 MB of colour. One of 1x100000 would become terabytes otherwise.
_MOST_RESIZED_PIXELS = 1 << 26
_ZERO = np.float32(0)


@dataclass(frozen=True)
class NetworkToImage:
    """Maps network pixels to pixels of the image as received: image = (network - offset) / scale, then clipped."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    image_width: int
    image_height: int

    def map_boxes(self, boxes_xyxy: Float32Array) -> Float32Array:
        """float32 (N, 4) boxes in network pixels to the same in image pixels, inside the image."""
        offset, scale, limit = self._as_arrays
        mapped: Float32Array = boxes_xyxy - offset
        mapped /= scale
        np.maximum(mapped, _ZERO, out=mapped)
        np.minimum(mapped, limit, out=mapped)
        return mapped

    @cached_property
    def _as_arrays(self) -> tuple[Float32Array, Float32Array, Float32Array]:
        pairs = (
            (self.offset_x, self.offset_y),
            (self.scale_x, self.scale_y),
            (self.image_width, self.image_height),
        )
        offset, scale, limit = (np.array(pair * 2, np.float32) for pair in pairs)
        return offset, scale, limit


@dataclass(frozen=True)
class Placement:
    """The size to which the picture is resized, the part of that which is used, and where it lies in the input.

    Pixels. What is used begins at (crop_x, crop_y) of the resized picture and lies at (left, top) of the input.
    """

    resized_width: int
    resized_height: int
    crop_x: int
    crop_y: int
    left: int
    top: int


def require_pixels(width: int, height: int) -> None:
    """Raises ImageError for an empty picture."""
    if width < 1 or height < 1:
        raise ImageError(f"the image is {width}x{height}; it needs at least one pixel each way")


@lru_cache(maxsize=64)
def place(spec: InputSpec, width: int, height: int) -> tuple[Placement, NetworkToImage]:
    """The placement of a picture of that size, by the input's resize mode.

    Letterbox rounds as Ultralytics does (LetterBox with auto=False, centred), and in the left upper corner cuts
    fractions of a pixel off as YOLOX does, so that boxes agree with theirs; crop rounds as torchvision's Resize and
    CenterCrop do, with which ImageNet models are evaluated. Raises ImageError for a crop of a picture that is much
    longer than wide, or the other way round.
    """
    if spec.resize == "stretch":
        way_back = NetworkToImage(spec.width / width, spec.height / height, 0, 0, width, height)
        return Placement(spec.width, spec.height, 0, 0, 0, 0), way_back
    if spec.resize == "crop":
        short = min(width, height)
        resized = spec.short_side * width // short, spec.short_side * height // short
        if resized[0] * resized[1] > _MOST_RESIZED_PIXELS:
            raise ImageError(
                f"the image is {width}x{height}; with a short side of {spec.short_side} it becomes "
                f"{resized[0]}x{resized[1]} before it is cropped, more than {_MOST_RESIZED_PIXELS} pixels: give images "
                "of other proportions, or another input.resize in the model file"
            )
        crop = round((resized[0] - spec.width) / 2), round((resized[1] - spec.height) / 2)
        way_back = NetworkToImage(resized[0] / width, resized[1] / height, -crop[0], -crop[1], width, height)
        return Placement(*resized, *crop, 0, 0), way_back
    scale = min(spec.width / width, spec.height / height)
    if spec.resize == "letterbox_top_left":
        resized = max(int(width * scale), 1), max(int(height * scale), 1)
        return Placement(*resized, 0, 0, 0, 0), NetworkToImage(scale, scale, 0, 0, width, height)
    resized = max(round(width * scale), 1), max(round(height * scale), 1)
    # Half a pixel too many goes to the right and the bottom.
    left = round((spec.width - resized[0]) / 2 - 0.1)
    top = round((spec.height - resized[1]) / 2 - 0.1)
    return Placement(*resized, 0, 0, left, top), NetworkToImage(scale, scale, left, top, width, height)
