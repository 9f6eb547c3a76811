"""A camera picture becomes a network's input tensor; the way back is returned with it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trt_perception.errors import ImageError
from trt_perception.model_file import InputSpec
from trt_perception.types import AnyArray, Float32Array, Image, Uint8Array

# Which channel of the picture feeds red, green and blue.
_RGB_INDEX = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "rgba": (0, 1, 2), "bgra": (2, 1, 0), "gray": (0, 0, 0)}
_TO_GRAY = {
    "rgb": cv2.COLOR_RGB2GRAY,
    "bgr": cv2.COLOR_BGR2GRAY,
    "rgba": cv2.COLOR_RGBA2GRAY,
    "bgra": cv2.COLOR_BGRA2GRAY,
}


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
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        limit = np.array([self.image_width, self.image_height] * 2, np.float32)
        mapped: Float32Array = np.clip((boxes_xyxy - offset) / scale, 0, limit)
        return mapped


@dataclass(frozen=True)
class _Placement:
    """Where the resized picture goes: the part of it that is used, and where that lies in the network's input."""

    resized_width: int
    resized_height: int
    crop_x: int
    crop_y: int
    left: int
    top: int


class Preprocessor:
    """Resizes, reorders colours, scales and lays out NCHW, into one buffer that is used again for every image.

    Letterbox rounds as Ultralytics does (LetterBox with auto=False, centred), and in the left upper corner cuts
    fractions of a pixel off as YOLOX does, so that boxes agree with theirs; crop rounds as torchvision's Resize and
    CenterCrop do, with which ImageNet models are evaluated.
    """

    def __init__(self, spec: InputSpec, tensor: Float32Array | None = None) -> None:
        """tensor: the buffer to use, float32 (1, C, height, width), its own when None."""
        self._spec = spec
        shape = (1, spec.channels, spec.height, spec.width)
        self._tensor: Float32Array = np.empty(shape, np.float32) if tensor is None else tensor
        std = np.asarray(spec.std, np.float32)
        self._factor = np.float32(spec.scale) / std
        self._shift = -np.asarray(spec.mean, np.float32) / std
        self._filled_for: _Placement | None = None

    def __call__(self, image: Image) -> tuple[Float32Array, NetworkToImage]:
        """The tensor, float32 (1, C, height, width), valid until the next call, and the way back.

        Raises ImageError for an empty picture.
        """
        if image.width < 1 or image.height < 1:
            raise ImageError(f"the image is {image.width}x{image.height}; it needs at least one pixel each way")
        placement, way_back = self._place(image.width, image.height)
        resized = _resize(image.pixels, placement.resized_width, placement.resized_height)
        spec = self._spec
        height = min(placement.resized_height - placement.crop_y, spec.height)
        width = min(placement.resized_width - placement.crop_x, spec.width)
        part = resized[placement.crop_y : placement.crop_y + height, placement.crop_x : placement.crop_x + width]
        if self._filled_for != placement:
            self._fill_border()
            self._filled_for = placement
        rows = slice(placement.top, placement.top + height)
        columns = slice(placement.left, placement.left + width)
        for channel, plane in enumerate(self._planes(part, image.color_order)):
            target = self._tensor[0, channel, rows, columns]
            np.multiply(plane, self._factor[channel], out=target)
            if self._shift[channel]:
                target += self._shift[channel]
        return self._tensor, way_back

    def _place(self, width: int, height: int) -> tuple[_Placement, NetworkToImage]:
        spec = self._spec
        if spec.resize == "stretch":
            way_back = NetworkToImage(spec.width / width, spec.height / height, 0, 0, width, height)
            return _Placement(spec.width, spec.height, 0, 0, 0, 0), way_back
        if spec.resize == "crop":
            short = min(width, height)
            resized = spec.short_side * width // short, spec.short_side * height // short
            crop = round((resized[0] - spec.width) / 2), round((resized[1] - spec.height) / 2)
            way_back = NetworkToImage(resized[0] / width, resized[1] / height, -crop[0], -crop[1], width, height)
            return _Placement(*resized, *crop, 0, 0), way_back
        scale = min(spec.width / width, spec.height / height)
        if spec.resize == "letterbox_top_left":
            resized = max(int(width * scale), 1), max(int(height * scale), 1)
            return _Placement(*resized, 0, 0, 0, 0), NetworkToImage(scale, scale, 0, 0, width, height)
        resized = max(round(width * scale), 1), max(round(height * scale), 1)
        # Half a pixel too many goes to the right and the bottom.
        left = round((spec.width - resized[0]) / 2 - 0.1)
        top = round((spec.height - resized[1]) / 2 - 0.1)
        return _Placement(*resized, 0, 0, left, top), NetworkToImage(scale, scale, left, top, width, height)

    def _fill_border(self) -> None:
        for channel in range(self._spec.channels):
            self._tensor[0, channel] = self._spec.pad_value * self._factor[channel] + self._shift[channel]

    def _planes(self, pixels: Uint8Array, order: str) -> list[AnyArray]:
        if self._spec.color_order == "gray":
            return [pixels[:, :, 0] if order == "gray" else cv2.cvtColor(pixels, _TO_GRAY[order])]
        index = _RGB_INDEX[order]
        # NumPy is twice as fast over whole planes as over every third byte.
        planes = cv2.split(pixels)
        return [planes[i] for i in (index if self._spec.color_order == "rgb" else index[::-1])]


def _resize(pixels: Uint8Array, width: int, height: int) -> Uint8Array:
    if pixels.shape[1] == width and pixels.shape[0] == height:
        return pixels
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    # OpenCV drops the channel axis of a grey picture.
    return resized.reshape(height, width, pixels.shape[2]).astype(np.uint8, copy=False)
