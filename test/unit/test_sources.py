"""Pictures from files, folders, videos and the built-in scene."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from trt_perception import sources
from trt_perception.errors import ImageError
from trt_perception.sources import open_source, read_picture
from trt_perception.types import Uint8Array


def flat(value: int, width: int = 40, height: int = 30) -> Uint8Array:
    return np.full((height, width, 3), value, np.uint8)


def save(path: Path, pixels: Uint8Array) -> None:
    good, data = cv2.imencode(path.suffix, pixels)
    assert good
    path.write_bytes(data.tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, value in (("b.png", 20), ("a.JPG", 10), ("ü c.bmp", 30)):
        save(tmp_path / name, flat(value))
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    assert writer.isOpened()
    for index in range(12):
        writer.write(flat(20 * index, 64, 48))
    writer.release()
    return path


def test_a_folder_gives_its_pictures_in_order(folder: Path) -> None:
    with open_source(str(folder)) as source:
        assert source.count == 3
        pictures = list(source.pictures)
    assert [name for name, _ in pictures] == ["a.JPG", "b.png", "ü c.bmp"]
    assert [int(pixels.mean()) for _, pixels in pictures] == [10, 20, 30]
    assert all(pixels.shape == (30, 40, 3) and pixels.dtype == np.uint8 for _, pixels in pictures)


def test_a_single_picture(folder: Path) -> None:
    with open_source(str(folder / "b.png")) as source:
        assert source.count == 1
        assert [name for name, _ in source.pictures] == ["b.png"]


def test_a_grey_picture_has_three_channels(tmp_path: Path) -> None:
    save(tmp_path / "grey.png", np.full((4, 5, 1), 9, np.uint8))
    assert read_picture(tmp_path / "grey.png").shape == (4, 5, 3)


def test_a_loop_over_files_has_no_end(folder: Path) -> None:
    with open_source(str(folder), loop=True) as source:
        assert source.count is None
        names = [name for name, _ in itertools.islice(source.pictures, 7)]
    assert names == ["a.JPG", "b.png", "ü c.bmp"] * 2 + ["a.JPG"]


def test_a_video_gives_every_frame_in_order(video: Path) -> None:
    with open_source(str(video)) as source:
        assert source.count == 12
        pictures = list(source.pictures)
    assert [name for name, _ in pictures] == [f"clip.avi#{i}" for i in range(12)]
    for index, (_, pixels) in enumerate(pictures):
        assert pixels.shape == (48, 64, 3)
        assert pixels.mean() == pytest.approx(20 * index, abs=4)


def test_a_loop_over_a_video_begins_again(video: Path) -> None:
    with open_source(str(video), loop=True) as source:
        assert source.count is None
        names = [name for name, _ in itertools.islice(source.pictures, 26)]
    assert names[11:14] == ["clip.avi#11", "clip.avi#0", "clip.avi#1"]
    assert len(names) == 26


def test_the_scene_has_the_size_asked_for_and_goes_on() -> None:
    with open_source("scene", width=160, height=120) as source:
        assert source.count is None
        first, second = itertools.islice(source.pictures, 2)
    assert (first[0], second[0]) == ("frame 0", "frame 1")
    assert first[1].shape == (120, 160, 3)
    assert (first[1] != second[1]).any()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    absent = open_source(str(tmp_path / "absent"))
    with pytest.raises(ImageError, match=r"absent does not exist; give a picture, a folder, a video"), absent:
        pass
    with open_source(str(tmp_path / "absent.png")) as source, pytest.raises(ImageError, match="No such file"):
        next(source.pictures)
    with pytest.raises(ImageError, match="holds no picture"), open_source(str(tmp_path)):
        pass


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(ImageError, match=r"clip\.mp4 cannot be opened as a video"), open_source(str(path)):
        pass


def test_a_webcam_that_is_not_there() -> None:
    with pytest.raises(ImageError, match="webcam 97 cannot be opened"), open_source("97"):
        pass


def png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xd8\xff\xe0", png_of(200_000, 200_000)])
def test_a_damaged_picture_is_named(tmp_path: Path, content: bytes) -> None:
    save(tmp_path / "a.png", flat(1))
    (tmp_path / "b.png").write_bytes(content)
    with open_source(str(tmp_path)) as source:
        assert next(source.pictures)[0] == "a.png"
        with pytest.raises(ImageError, match=r"b\.png"):
            next(source.pictures)


def test_a_webcam_that_is_not_there_is_said() -> None:
    with pytest.raises(ImageError, match="webcam 97 cannot be opened as a video"), open_source("97"):
        pass


def test_a_webcam_that_stops_is_said_after_its_last_picture(video: Path) -> None:
    """Any stream of OpenCV's that ends: a video stands for the webcam."""
    capture = cv2.VideoCapture(str(video))
    pictures = sources._live(capture, "webcam 0")
    name, first = next(pictures)
    assert (name, first.ndim, str(first.dtype)) == ("frame 0", 3, "uint8")
    with pytest.raises(ImageError, match="webcam 0 stopped sending pictures; check that it is still connected"):
        for _ in pictures:
            pass
    capture.release()
