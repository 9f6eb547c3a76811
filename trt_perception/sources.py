"""Where pictures come from when no camera driver does: files, folders, videos, webcams, the built-in scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from trt_perception.errors import ImageError
from trt_perception.scenes import MovingScene
from trt_perception.types import Uint8Array

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SCENE = "scene"


@dataclass(frozen=True)
class Source:
    """name: what to call it in messages; count: how many pictures it has, None for a live or endless one."""

    name: str
    count: int | None
    pictures: Iterator[tuple[str, Uint8Array]]


@contextmanager
def open_source(
    text: str,
    *,
    width: int = 640,
    height: int = 480,
    loop: bool = False,
    on_unreadable: Callable[[ImageError], None] | None = None,
) -> Iterator[Source]:
    """Opens a picture, a folder of pictures, a video, a webcam by number, or `scene`, the built-in moving scene.

    Yields a Source whose pictures are pairs of a name and a uint8 BGR array (height, width, 3). width and height
    are wishes to a webcam, and the size of the scene; files keep their own. loop: begin again at the end of files.
    on_unreadable: is told of a file that is no picture, and the next one follows; without it ImageError is raised.
    Raises ImageError when there is nothing to read.
    """
    path = Path(text)
    if text == SCENE:
        yield Source(SCENE, None, _scene(width, height))
    elif text.isdecimal():
        with _capture(int(text), f"webcam {text}") as capture:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            yield Source(f"webcam {text}", None, _live(capture, f"webcam {text}"))
    elif path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        files = _image_files(path)
        yield Source(text, None if loop else len(files), _files(files, loop, on_unreadable))
    elif path.is_file():
        with _capture(text, text) as capture:
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            yield Source(text, count if count > 0 and not loop else None, _video(capture, path.name, loop))
    else:
        raise ImageError(f"{text} does not exist; give a picture, a folder, a video, a webcam's number or `{SCENE}`")


def read_picture(path: Path) -> Uint8Array:
    """A picture file as uint8 BGR (height, width, 3); raises ImageError when it cannot be read."""
    try:
        # Not cv2.imread: it prints instead of telling why, and returns None.
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}); give a picture file") from error
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise ImageError(f"{path} cannot be decoded ({error.err}); expected e.g. JPEG or PNG") from error
    if picture is None:
        raise ImageError(f"{path} is no picture that OpenCV can read; expected e.g. JPEG or PNG")
    return np.asarray(picture, np.uint8)


def _image_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not files:
        raise ImageError(f"the folder {path} holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return files


def _files(
    files: list[Path], loop: bool, on_unreadable: Callable[[ImageError], None] | None
) -> Iterator[tuple[str, Uint8Array]]:
    while True:
        for file in files:
            try:
                picture = read_picture(file)
            except ImageError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(error)
            else:
                yield file.name, picture
        if not loop:
            return


def _scene(width: int, height: int) -> Iterator[tuple[str, Uint8Array]]:
    scene = MovingScene(width, height)
    index = 0
    while True:
        yield f"frame {index}", scene.frame(index).image_bgr
        index += 1


@contextmanager
def _capture(source: int | str, name: str) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise ImageError(
                f"{name} cannot be opened as a video; check that it exists and that OpenCV reads its format"
            )
        yield capture
    finally:
        capture.release()


def _live(capture: cv2.VideoCapture, name: str) -> Iterator[tuple[str, Uint8Array]]:
    index = 0
    while True:
        good, picture = capture.read()
        if not good:
            raise ImageError(f"{name} stopped sending pictures; check that it is still connected")
        yield f"frame {index}", np.asarray(picture, np.uint8)
        index += 1


def _video(capture: cv2.VideoCapture, name: str, loop: bool) -> Iterator[tuple[str, Uint8Array]]:
    index = 0
    while True:
        good, picture = capture.read()
        if good:
            yield f"{name}#{index}", np.asarray(picture, np.uint8)
            index += 1
        elif loop and index:
            capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            index = 0
        elif index:
            return
        else:
            raise ImageError(f"{name} holds no picture that OpenCV can decode")
