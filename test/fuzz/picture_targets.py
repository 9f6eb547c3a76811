"""Images: the fields of sensor_msgs/Image, compressed pictures, and what the preparation makes of odd sizes."""

from __future__ import annotations

import zlib
from functools import cache
from random import Random

import cv2
import numpy as np

from test.fuzz.mutate import INTEGERS, TEXTS, mutated
from test.fuzz.target import Target
from trt_perception.encodings import ENCODINGS, decode_compressed, decode_image
from trt_perception.errors import ModelFileError
from trt_perception.model_file import NETWORK_COLORS, RESIZE_MODES, InputSpec
from trt_perception.preprocess import Preprocessor
from trt_perception.types import AnyArray, Image

_NAMES = tuple(ENCODINGS)
_SIDES = (1, 2, 3, 4, 5, 8, 16, 17, 64)
_COMPRESSED = (*(".jpg", ".png") * 5, ".bmp", ".webp", ".tiff", ".ppm", ".pgm", ".hdr", ".jp2", ".exr", ".sr", ".gif")
_FORMATS = ("", "jpeg", "png", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed ", "16UC1; png compressed ")


@cache
def _pictures() -> tuple[bytes, ...]:
    random = np.random.default_rng(0)
    found = []
    for suffix in _COMPRESSED:
        for shape in ((8, 8, 3), (5, 7), (6, 4, 4)):
            for dtype in (np.uint8, np.uint16, np.float32):
                pixels: AnyArray = random.integers(0, 255, shape).astype(dtype)
                try:
                    good, data = cv2.imencode(suffix, pixels)
                except cv2.error:
                    continue
                if good:
                    found.append(data.tobytes())
    return tuple(found)


@cache
def _preprocessor(width: int, height: int, color: int, resize: int, short_side: int) -> Preprocessor:
    return Preprocessor(
        InputSpec(width, height, NETWORK_COLORS[color], RESIZE_MODES[resize], short_side=max(short_side, width, height))
    )


def _prepare(random: Random, image: Image) -> None:
    assert image.pixels.dtype == np.uint8 and image.pixels.ndim == 3
    preprocess = _preprocessor(
        *(random.choice((1, 7, 32)) for _ in range(2)), *(random.randrange(3) for _ in range(2)), 32
    )
    tensor, way_back = preprocess(image)
    assert np.isfinite(tensor).all()
    boxes = way_back.map_boxes(np.array([[-np.inf, -np.inf, np.inf, np.inf], [0, 0, 1, 1]], np.float32))
    assert (boxes >= 0).all() and boxes[0].tolist() == [0, 0, image.width, image.height]


def raw_image(random: Random) -> None:
    encoding = random.choice(_NAMES)
    if random.random() < 0.03:
        encoding = random.choice((*TEXTS, mutated(random, encoding.encode()).decode("utf-8", "replace")))
    width, height = (random.choice(_SIDES if random.random() < 0.9 else INTEGERS) for _ in range(2))
    layout = ENCODINGS.get(encoding)
    row = width * (layout.bytes_per_pixel if layout else 1)
    step = random.choice(INTEGERS) if random.random() < 0.1 else max(row + random.choice((0, 0, 0, 1, 3, 64, -1)), 0)
    needed = step * (layout.rows(height) if layout else height)
    size = random.choice((needed, needed, needed, needed - 1, needed + 5, 0, random.randrange(4096)))
    data = random.randbytes(min(max(size, 0), 1 << 16))
    _prepare(random, decode_image(encoding, width, height, step, data, random.random() < 0.3))


def _claiming(random: Random, data: bytes) -> bytes:
    """The same picture, said to be of another size."""
    sides = [random.choice((0, 1, 9, 4096, 30_000, 65_500, 65_535)) for _ in range(2)]
    if data.startswith(b"\x89PNG"):
        header = data[12:16] + b"".join(side.to_bytes(4, "big") for side in sides) + data[24:29]
        return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    start = max(data.find(b"\xff\xc0"), 0) + 5
    return data[:start] + b"".join(side.to_bytes(2, "big") for side in sides) + data[start + 4 :]


def compressed_image(random: Random) -> None:
    data = random.choice(_pictures())
    if random.random() < 0.05:
        data = _claiming(random, data)
    if random.random() < 0.95:
        data = mutated(random, data)
    form = random.choice(
        (*_FORMATS, random.choice(TEXTS), mutated(random, _FORMATS[3].encode()).decode("utf-8", "replace"))
    )
    _prepare(random, decode_compressed(data, form))


def picture_size(random: Random) -> None:
    """Pictures of extreme proportions, and networks of any size."""
    short, long = random.choice((1, 2, 3, 10)), random.choice((1, 100, 5000, 40_000, 100_000))
    width, height = (short, long) if random.random() < 0.5 else (long, short)
    channels = random.choice((1, 3, 4))
    order = {1: "gray", 3: "bgr", 4: "rgba"}[channels]
    try:
        spec = InputSpec(
            random.choice((1, 2, 31, 224)),
            random.choice((1, 2, 31, 224)),
            random.choice(NETWORK_COLORS),
            random.choice(RESIZE_MODES),
            short_side=random.choice((0, 224, 256, 16384)),
        )
    except ModelFileError:
        return
    tensor, _ = Preprocessor(spec)(Image(np.full((height, width, channels), 9, np.uint8), order))  # type: ignore[arg-type]
    assert np.isfinite(tensor).all()


TARGETS = (
    Target("raw_image", raw_image, 5.0),
    Target("compressed_image", compressed_image, 2.0),
    Target("picture_size", picture_size, 0.1),
)
