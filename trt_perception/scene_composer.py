"""Composes a picture of handwritten digits on a photograph, with their true boxes, from a random generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_perception.glyphs import Stamp, blend, make_stamp, upright_ink

Image = NDArray[np.uint8]

_PLACEMENT_TRIES = 30
_LARGEST_INK_SHARE = 0.6
_LUMA_BGR = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class DigitSet:
    """Labelled glyph bitmaps: images uint8 (N, 8, 8), 0 = paper to 16 = ink; labels int64 (N,), 0 to 9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """A picture and what is on it.

    image_bgr: uint8 (H, W, 3). boxes_xyxy: float32 (N, 4), left, top, right, bottom of the visible ink in the
    picture's pixels (pixel edges). class_ids: int64 (N,), the digit drawn in each box.
    """

    image_bgr: Image
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]


@dataclass(frozen=True)
class SceneStyle:
    """Ranges (low, high) that a scene's random choices are drawn from.

    digit_count: digits tried per scene, both ends included; fewer are drawn where no free place is found.
    ink_height_px: height of a digit before it is turned, drawn evenly on a logarithmic scale.
    aspect: width over height. rotation_deg, shear: largest turn and lean, to either side.
    blur_share: sigma of the digit's blur over its height. contrast_luma: difference of brightness (0 to 255)
    between ink and the ground around it. opacity: share of the ground that ink hides.
    noise_sigma: standard deviation of the sensor noise, in grey levels. overlap_share: largest share of the smaller
    of two boxes that may be covered by the other.
    """

    digit_count: tuple[int, int] = (1, 8)
    ink_height_px: tuple[float, float] = (14.0, 120.0)
    aspect: tuple[float, float] = (0.85, 1.2)
    rotation_deg: float = 15.0
    shear: float = 0.12
    blur_share: tuple[float, float] = (0.0, 0.03)
    contrast_luma: tuple[float, float] = (45.0, 150.0)
    opacity: tuple[float, float] = (0.85, 1.0)
    noise_sigma: tuple[float, float] = (0.0, 6.0)
    overlap_share: float = 0.03


def compose_scene(
    rng: np.random.Generator,
    digits: DigitSet,
    photos: Sequence[Image],
    width: int,
    height: int,
    style: SceneStyle | None = None,
) -> Scene:
    """Draws random digits on a random crop of a random photograph.

    photos: uint8 (h, w, 3) BGR each, any size. width, height: of the scene, in pixels. The same generator state and
    arguments give the same scene.

    Raises ValueError when the scene is too small for the smallest digit of the style.
    """
    style = style or SceneStyle()
    smallest_px, largest_px = style.ink_height_px
    largest_px = min(largest_px, _LARGEST_INK_SHARE * min(width, height))
    if largest_px < smallest_px:
        raise ValueError(
            f"a scene of {width}x{height} px came, too small for digits of {smallest_px:g} px; "
            f"expected both sides >= {math.ceil(smallest_px / _LARGEST_INK_SHARE)} px"
        )
    image = _background(rng, photos, width, height)
    boxes: list[NDArray[np.float32]] = []
    class_ids: list[int] = []
    for _ in range(int(rng.integers(style.digit_count[0], style.digit_count[1] + 1))):
        pick = int(rng.integers(len(digits.labels)))
        ink_height_px = math.exp(rng.uniform(math.log(smallest_px), math.log(largest_px)))
        ink = upright_ink(digits.images[pick], ink_height_px, rng.uniform(*style.aspect))
        stamp = _place(rng, ink, ink_height_px, (width, height), boxes, style)
        if stamp is None:
            continue
        blend(image, stamp, _ink_color(rng, image, stamp.box_xyxy, style.contrast_luma), rng.uniform(*style.opacity))
        boxes.append(stamp.box_xyxy)
        class_ids.append(int(digits.labels[pick]))
    return Scene(
        image_bgr=_with_noise(rng, image, rng.uniform(*style.noise_sigma)),
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        class_ids=np.array(class_ids, np.int64),
    )


def _background(rng: np.random.Generator, photos: Sequence[Image], width: int, height: int) -> Image:
    photo = photos[int(rng.integers(len(photos)))]
    photo_height, photo_width = photo.shape[:2]
    largest_crop = min(photo_width / width, photo_height / height)
    crop = largest_crop * rng.uniform(0.5, 1.0)
    crop_width, crop_height = max(1, int(width * crop)), max(1, int(height * crop))
    left = int(rng.integers(photo_width - crop_width + 1))
    top = int(rng.integers(photo_height - crop_height + 1))
    region = photo[top : top + crop_height, left : left + crop_width]
    if rng.random() < 0.5:
        region = region[:, ::-1]
    resized = cv2.resize(np.ascontiguousarray(region), (width, height), interpolation=cv2.INTER_LINEAR)
    gain, offset = rng.uniform(0.6, 1.2), rng.uniform(-20.0, 20.0)
    toned = np.clip(np.rint(np.arange(256) * gain + offset), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(resized, toned), dtype=np.uint8)


def _with_noise(rng: np.random.Generator, image: Image, sigma: float) -> Image:
    if sigma == 0:
        return image
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _place(
    rng: np.random.Generator,
    ink: NDArray[np.float32],
    ink_height_px: float,
    size_wh: tuple[int, int],
    taken: Sequence[NDArray[np.float32]],
    style: SceneStyle,
) -> Stamp | None:
    """Tries random places until the whole ink lies inside the picture and (nearly) clear of the other digits."""
    width, height = size_wh
    turn, lean = math.radians(rng.uniform(-style.rotation_deg, style.rotation_deg)), rng.uniform(-1, 1) * style.shear
    blur_px = ink_height_px * rng.uniform(*style.blur_share)
    probe = make_stamp(ink, (0.0, 0.0), rotation_rad=turn, shear=lean, blur_sigma_px=blur_px)
    reach_left, reach_top, reach_right, reach_bottom = (float(value) for value in probe.box_xyxy)
    if reach_right - reach_left > width - 2 or reach_bottom - reach_top > height - 2:
        return None
    for _ in range(_PLACEMENT_TRIES):
        # Whole pixels from the probe, which is drawn once and moved: sub-pixel places come from the random turn.
        x = int(rng.integers(math.ceil(1 - reach_left), math.floor(width - 1 - reach_right) + 1))
        y = int(rng.integers(math.ceil(1 - reach_top), math.floor(height - 1 - reach_bottom) + 1))
        box = probe.box_xyxy + np.array([x, y, x, y], np.float32)
        if all(_covered_share(box, other) <= style.overlap_share for other in taken):
            return Stamp(alpha=probe.alpha, left=probe.left + x, top=probe.top + y, box_xyxy=box)
    return None


def _covered_share(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Returns the area common to two boxes over the area of the smaller one."""
    common = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(common / min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()))


def _ink_color(
    rng: np.random.Generator, image: Image, box_xyxy: NDArray[np.float32], contrast_luma: tuple[float, float]
) -> tuple[float, float, float]:
    """Picks a colour that is clearly brighter or darker than the mean of the box it will be drawn into."""
    left, top, right, bottom = (int(value) for value in box_xyxy)
    ground = image[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
    ground_luma = float(ground @ _LUMA_BGR)
    contrast = rng.uniform(*contrast_luma)
    fitting = [luma for luma in (ground_luma - contrast, ground_luma + contrast) if 0 <= luma <= 255]
    # On a middle grey a strong contrast fits neither way: then as bright or dark as the farther end allows.
    farther_end = 255.0 if ground_luma < 127.5 else 0.0
    ink_luma = fitting[int(rng.integers(len(fitting)))] if fitting else farther_end
    tint = rng.uniform(-1.0, 1.0, 3) * rng.uniform(0.0, 60.0)
    tint -= tint @ _LUMA_BGR  # a tint without brightness of its own keeps the contrast
    blue, green, red = np.clip(ink_luma + tint, 0, 255)
    return float(blue), float(green), float(red)
