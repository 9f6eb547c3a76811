"""What TensorRT's calibrator is fed and what it keeps, with CUDA replaced by memory of the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.engine.calibration import CalibrationImages, make_calibrator
from trt_perception.errors import PerceptionError
from trt_perception.model_file import InputSpec

SIDE = 8


class Base:
    """IInt8EntropyCalibrator2: its subclasses must call this constructor."""

    def __init__(self) -> None:
        self.constructed = True


class HostBuffer:
    """A buffer whose uploads are remembered."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.host = np.empty(shape, dtype)
        self.address = 4096
        self.uploaded: list[Any] = []
        self.closed = False

    def upload(self) -> None:
        self.uploaded.append(self.host.copy())

    def close(self) -> None:
        self.closed = True


class HostSession:
    """A CudaSession that hands out host buffers."""

    def __init__(self) -> None:
        self.buffers: list[HostBuffer] = []
        self.entered = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        self.entered += 1
        yield

    def buffer(self, shape: tuple[int, ...], dtype: str) -> HostBuffer:
        self.buffers.append(HostBuffer(shape, dtype))
        return self.buffers[-1]

    def synchronize(self) -> None:
        assert self.entered


@pytest.fixture
def images(tmp_path: Path) -> CalibrationImages:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((SIDE, SIDE, 3), 80 * index, np.uint8))
    return CalibrationImages(folder, InputSpec(SIDE, SIDE), count=3)


def calibrator(images: CalibrationImages | None, cache: Path | None, batch: int = 1) -> tuple[Any, HostSession]:
    session: Any = HostSession()
    return make_calibrator(fake_tensorrt(IInt8EntropyCalibrator2=Base), session, images, batch, cache), session


def test_every_picture_goes_up_once_through_one_buffer(images: CalibrationImages) -> None:
    subject, session = calibrator(images, None)
    assert subject.constructed and subject.get_batch_size() == 1
    assert [subject.get_batch(["images"]) for _ in range(4)] == [[4096], [4096], [4096], None]
    (buffer,) = session.buffers
    expected = list(images.batches())
    assert len(buffer.uploaded) == 3
    for got, wanted in zip(buffer.uploaded, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert subject.failure is None
    subject.free()
    assert buffer.closed


def test_a_broken_picture_ends_the_batches_and_is_kept_for_the_builder(images: CalibrationImages) -> None:
    images.files[1].write_bytes(b"no picture")
    cache = images.files[0].with_name("int8.cache")
    subject, _ = calibrator(images, cache)
    assert subject.get_batch(["images"]) == [4096]
    assert subject.get_batch(["images"]) is None
    assert isinstance(subject.failure, PerceptionError) and "1.png cannot be read" in str(subject.failure)
    subject.write_calibration_cache(b"TRT-8600 of one picture")
    assert not cache.exists()


def test_a_network_of_a_fixed_batch_gets_as_many_pictures_at_once(images: CalibrationImages) -> None:
    subject, session = calibrator(images, None, batch=2)
    assert subject.get_batch_size() == 2
    assert [subject.get_batch(["images"]) for _ in range(3)] == [[4096], [4096], None]
    first, second, third = images.batches()
    (buffer,) = session.buffers
    np.testing.assert_array_equal(buffer.uploaded[0], np.concatenate([first, second]))
    np.testing.assert_array_equal(buffer.uploaded[1], np.concatenate([third, third]))


def test_the_cache_is_written_and_then_read(tmp_path: Path) -> None:
    cache = tmp_path / "int8.cache"
    subject, session = calibrator(None, cache)
    assert subject.read_calibration_cache() is None
    assert subject.get_batch(["images"]) is None and session.buffers == []
    subject.write_calibration_cache(memoryview(b"TRT-8600"))
    assert cache.read_bytes() == b"TRT-8600"
    assert subject.read_calibration_cache() == b"TRT-8600"
    subject.free()


def test_without_a_cache_nothing_is_kept(images: CalibrationImages, tmp_path: Path) -> None:
    subject, _ = calibrator(images, None)
    subject.write_calibration_cache(b"TRT-8600")
    assert subject.read_calibration_cache() is None and subject.failure is None
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_cache_that_cannot_be_written_is_kept_for_the_builder(images: CalibrationImages, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    subject, _ = calibrator(images, tmp_path / "file" / "int8.cache")
    subject.write_calibration_cache(b"TRT-8600")
    assert isinstance(subject.failure, PerceptionError) and "file" in str(subject.failure)
