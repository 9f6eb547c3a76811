"""A camera picture becomes a network's input tensor; the way back is returned with it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from trt_perception.model_file import InputSpec
from trt_perception.placement import NetworkToImage, Placement, place, require_pixels
from trt_perception.types import AnyArray, Float32Array, Image, Uint8Array

# Which channel of the picture feeds red, green and blue.
_RGB_INDEX = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "rgba": (0, 1, 2), "bgra": (2, 1, 0), "gray": (0, 0, 0)}
_TO_GRAY = {
    "rgb": cv2.COLOR_RGB2GRAY,
    "bgr": cv2.COLOR_BGR2GRAY,
    "rgba": cv2.COLOR_RGBA2GRAY,
    "bgra": cv2.COLOR_BGRA2GRAY,
}


class Preprocessor:
    """Resizes, reorders colours, scales and lays out NCHW, into one buffer that is used again for every image.

    Where the picture goes is placement.place's choice.
    """

    def __init__(self, spec: InputSpec, tensor: Float32Array | None = None) -> None:
        """tensor: the buffer to use, float32 (1, C, height, width), its own when None."""
        self._spec = spec
        shape = (1, spec.channels, spec.height, spec.width)
        self._tensor: Float32Array = np.empty(shape, np.float32) if tensor is None else tensor
        std = np.asarray(spec.std, np.float32)
        self._factor: list[float] = (np.float32(spec.scale) / std).tolist()
        self._shift: list[float] = (-np.asarray(spec.mean, np.float32) / std).tolist()
        self._filled_for: Placement | None = None
        # Memory that OpenCV fills again as long as the size stays.
        self._resized: AnyArray | None = None
        self._split: Sequence[AnyArray] | None = None

    def __call__(self, image: Image) -> tuple[Float32Array, NetworkToImage]:
        """The tensor, float32 (1, C, height, width), valid until the next call, and the way back.

        Raises ImageError for an empty picture.
        """
        require_pixels(image.width, image.height)
        placement, way_back = place(self._spec, image.width, image.height)
        resized = self._resize(image.pixels, placement.resized_width, placement.resized_height)
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
            if self._shift[channel]:
                # Rounded after each step, as the devices do.
                np.multiply(plane, np.float32(self._factor[channel]), out=target)
                target += np.float32(self._shift[channel])
            else:
                # A weighted sum whose second weight is 0: the one call that goes from bytes to floats in one pass.
                cv2.addWeighted(plane, self._factor[channel], plane, 0.0, 0.0, dst=target, dtype=cv2.CV_32F)
        return self._tensor, way_back

    def _fill_border(self) -> None:
        for channel in range(self._spec.channels):
            factor, shift = np.float32(self._factor[channel]), np.float32(self._shift[channel])
            self._tensor[0, channel] = self._spec.pad_value * factor + shift

    def _planes(self, pixels: Uint8Array, order: str) -> list[AnyArray]:
        if self._spec.color_order == "gray":
            return [pixels[:, :, 0] if order == "gray" else cv2.cvtColor(pixels, _TO_GRAY[order])]
        index = _RGB_INDEX[order]
        if order == "gray":
            planes: Sequence[AnyArray] = (pixels[:, :, 0],)
        else:
            planes = self._split = cv2.split(pixels, self._split)
        return [planes[i] for i in (index if self._spec.color_order == "rgb" else index[::-1])]

    def _resize(self, pixels: Uint8Array, width: int, height: int) -> Uint8Array:
        if pixels.shape[1] == width and pixels.shape[0] == height:
            return pixels
        step, left_over = divmod(pixels.shape[0], height)
        if not left_over and step % 2:
            # Rows of the result lie on every so manyth row, so there is nothing to interpolate between rows.
            pixels = pixels[step // 2 :: step]
        self._resized = cv2.resize(pixels, (width, height), dst=self._resized, interpolation=cv2.INTER_LINEAR)
        # OpenCV drops the channel axis of a grey picture.
        return np.asarray(self._resized, np.uint8).reshape(height, width, pixels.shape[2])
