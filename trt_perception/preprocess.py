"""A camera picture becomes a network's input tensor; the way back is returned with it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from trt_perception.model_file import InputSpec
from trt_perception.placement import NetworkToImage, Placement, place, require_pixels
from trt_perception.types import AnyArray, ColorOrder, Float32Array, Image, Uint8Array

# Which channel of the picture feeds red, green and blue.
_RGB_INDEX = {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "rgba": (0, 1, 2), "bgra": (2, 1, 0)}
_TO_GRAY = {
    "rgb": cv2.COLOR_RGB2GRAY,
    "bgr": cv2.COLOR_BGR2GRAY,
    "rgba": cv2.COLOR_RGBA2GRAY,
    "bgra": cv2.COLOR_BGRA2GRAY,
}
# Memory is kept for so many sizes and colour orders, those of a few cameras; where a picture is large before it is
# cropped, for the last of them.
_KEPT = 4
_LARGE_BYTES = 1 << 24


class Preprocessor:
    """Resizes, reorders colours, scales and lays out NCHW, into one buffer that is used again for every image.

    Where the picture goes is placement.place's choice.
    """

    def __init__(self, spec: InputSpec, tensor: Float32Array | None = None) -> None:
        """tensor: the buffer to use, float32 (1, C, height, width), its own when None.

        Raises ValueError for a buffer that is not contiguous.
        """
        self._spec = spec
        shape = (1, spec.channels, spec.height, spec.width)
        self._tensor: Float32Array = np.empty(shape, np.float32) if tensor is None else tensor
        if not self._tensor.flags.c_contiguous:
            raise ValueError(f"the tensor {self._tensor.shape} is not contiguous (strides {self._tensor.strides})")
        self._scaling = _Scaling(spec)
        self._filled_for: Placement | None = None
        self._ways: dict[tuple[tuple[int, ...], ColorOrder], _Way] = {}

    def __call__(self, image: Image) -> tuple[Float32Array, NetworkToImage]:
        """The tensor, float32 (1, C, height, width), valid until the next call, and the way back.

        Raises ImageError for an empty picture.
        """
        way = self._ways.get((image.pixels.shape, image.color_order)) or self._new_way(image)
        if self._filled_for != way.placement:
            self._scaling.fill(self._tensor[0])
            self._filled_for = way.placement
        way.run(image.pixels)
        return self._tensor, way.back

    def _new_way(self, image: Image) -> _Way:
        require_pixels(image.width, image.height)
        way = _Way(self._spec, self._scaling, image, self._tensor[0])
        if len(self._ways) >= _KEPT or way.resized_bytes > _LARGE_BYTES:
            self._ways.clear()
        self._ways[image.pixels.shape, image.color_order] = way
        return way


class _Scaling:
    """From bytes to what the network wants: (value * scale - mean) / std of each channel."""

    def __init__(self, spec: InputSpec) -> None:
        std = np.asarray(spec.std, np.float32)
        self._pad_value = spec.pad_value
        self._factors: list[float] = (np.float32(spec.scale) / std).tolist()
        self._shifts: list[float] = (-np.asarray(spec.mean, np.float32) / std).tolist()
        # All channels may be taken for one.
        self.is_uniform = len(set(self._factors)) == 1 and not any(self._shifts)

    def fill(self, planes: Float32Array) -> None:
        """Fills float32 (C, height, width) with the border's colour."""
        for channel, plane in enumerate(planes):
            factor, shift = np.float32(self._factors[channel]), np.float32(self._shifts[channel])
            plane[:] = self._pad_value * factor + shift

    def __call__(self, source: Uint8Array, target: Float32Array, channel: int) -> None:
        """Writes a plane of bytes into one of floats of the same shape."""
        factor, shift = self._factors[channel], self._shifts[channel]
        if shift:
            # Rounded after each step, as the devices do.
            np.multiply(source, np.float32(factor), out=target)
            target += np.float32(shift)
            return
        # The one call that goes from bytes to scaled floats in one pass: it multiplies by so much that the largest
        # value becomes the given one. That is the factor again to the last bit, since a float32 times a byte is exact
        # in float64.
        largest = cv2.norm(source, cv2.NORM_INF)
        cv2.normalize(source, target, factor * largest, norm_type=cv2.NORM_INF, dtype=cv2.CV_32F)


class _Way:
    """The way of all pictures of one size and colour order into a tensor, worked out once, with the memory it takes."""

    def __init__(self, spec: InputSpec, scaling: _Scaling, image: Image, tensor: Float32Array) -> None:
        """tensor: float32 (C, height, width), where the pictures go; image: the first of them."""
        self.placement, self.back = placement, _ = place(spec, image.width, image.height)
        self._scaling = scaling
        self._order = image.color_order
        channels = image.pixels.shape[2]
        self._size = placement.resized_width, placement.resized_height
        is_resized = self._size != (image.width, image.height)
        self._resized = np.empty((*self._size[::-1], channels), np.uint8) if is_resized else None
        self._rows, self._interpolation = _sampling(image, *self._size)
        height = min(placement.resized_height - placement.crop_y, spec.height)
        width = min(placement.resized_width - placement.crop_x, spec.width)
        self._used = (
            slice(placement.crop_y, placement.crop_y + height),
            slice(placement.crop_x, placement.crop_x + width),
        )
        target = tensor[:, placement.top : placement.top + height, placement.left : placement.left + width]
        self._targets: list[Float32Array] = list(target)
        self._to_gray = _TO_GRAY.get(self._order) if spec.color_order == "gray" else None
        if self._order == "gray":
            return
        planes = np.empty((1 if self._to_gray is not None else channels, height, width), np.uint8)
        self._sources: list[Uint8Array] = list(planes[: spec.channels])
        if self._to_gray is not None:
            return
        index = _RGB_INDEX[self._order] if spec.color_order == "rgb" else _RGB_INDEX[self._order][::-1]
        # The planes lie in the network's order, the alpha channel behind them.
        self._split_into = [planes[index.index(channel) if channel < 3 else channel] for channel in range(channels)]
        if scaling.is_uniform and width == spec.width:
            # Whole rows of all channels at once: each plane becomes one long row.
            begin = placement.top * width
            self._sources = [planes[:3].reshape(3, -1)]
            self._targets = [tensor.reshape(3, -1)[:, begin : begin + height * width]]

    @property
    def resized_bytes(self) -> int:
        """Memory for the resized picture."""
        return 0 if self._resized is None else self._resized.nbytes

    def run(self, pixels: Uint8Array) -> None:
        """Writes the picture into the tensor."""
        if self._resized is not None:
            cv2.resize(pixels[self._rows], self._size, dst=self._resized, interpolation=self._interpolation)
            pixels = self._resized
        for channel, source in enumerate(self._planes(pixels[self._used])):
            self._scaling(source, self._targets[channel], channel)

    def _planes(self, pixels: Uint8Array) -> Sequence[AnyArray]:
        if self._order == "gray":
            return [pixels[:, :, 0]] * len(self._targets)
        if self._to_gray is not None:
            cv2.cvtColor(pixels, self._to_gray, dst=self._sources[0])
        else:
            cv2.split(pixels, self._split_into)
        return self._sources


def _sampling(image: Image, width: int, height: int) -> tuple[slice, int]:
    """The rows of the picture that are read, and how OpenCV interpolates between them; the result is INTER_LINEAR's.

    Where the picture is an odd number of times as large, pixels of the result lie on pixels of the picture.
    """
    across, down = _odd_multiple(image.width, width), _odd_multiple(image.height, height)
    rows = slice(down // 2, None, down) if down else slice(None)
    return rows, cv2.INTER_NEAREST_EXACT if across and down else cv2.INTER_LINEAR


def _odd_multiple(whole: int, part: int) -> int:
    """How many times the one is as large as the other where that is an odd number, else 0."""
    times, left_over = divmod(whole, part)
    return times if times % 2 and not left_over else 0
