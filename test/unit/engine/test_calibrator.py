"""What TensorRT's calibrator is fed and what it keeps, with CUDA replaced by memory of the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.engine.builder import NativeBuild
from trt_perception.engine.calibration import CalibrationImages, make_calibrator
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.shapes import ShapeOptions
from trt_perception.engine.source import prepare_source
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


class FakeProfile:
    """IOptimizationProfile."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, name: str, smallest: Any, best: Any, largest: Any) -> None:
        self.shapes[name] = smallest, best, largest


class FakeConfig:
    """IBuilderConfig, as far as profiles go."""

    def __init__(self) -> None:
        self.profiles: list[FakeProfile] = []
        self.int8_calibrator: Any = None
        self.features: dict[str, bool] = {}

    def set_preview_feature(self, feature: str, on: bool) -> None:
        self.features[feature] = on

    def add_optimization_profile(self, profile: FakeProfile) -> None:
        self.profiles.append(profile)


def native_build(
    images: CalibrationImages,
    network: tuple[int, ...],
    shapes: ShapeOptions,
    profile: FakeProfile,
    version: tuple[int, ...] = (8, 6, 0),
) -> NativeBuild:
    """A build that has parsed a network of that input shape."""
    names = {
        "DataType": SimpleNamespace(FLOAT="FLOAT"),
        "PreviewFeature": SimpleNamespace(PROFILE_SHARING_0806="shared"),
    }
    trt = fake_tensorrt(version, IInt8EntropyCalibrator2=Base, **names)
    options = BuildOptions(Path("network.onnx"), int8=True, int8_method="calibrate", shapes=shapes)
    session: Any = HostSession()
    build = NativeBuild(trt, session, options, prepare_source(trt, options, b"", images), images.spec)
    tensor = SimpleNamespace(name="images", shape=network, dtype="FLOAT")
    build._network = SimpleNamespace(num_inputs=1, get_input=[tensor].__getitem__)
    build._builder = SimpleNamespace(create_optimization_profile=lambda: profile)
    return build


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


@pytest.mark.parametrize(
    ("network", "shapes", "batch"),
    [
        ((2, 3, SIDE, SIDE), ShapeOptions(), 2),
        ((-1, 3, -1, -1), ShapeOptions(), 1),
        ((-1, 3, -1, -1), ShapeOptions({"images": (1, 3, SIDE, SIDE)}, {"images": (4, 3, SIDE, SIDE)}), 4),
        ((-1, 3, SIDE, SIDE), ShapeOptions(best={"images": (8, 3, SIDE, SIDE)}), 8),
    ],
)
def test_the_calibrator_gets_what_the_engine_is_best_for(
    images: CalibrationImages, network: tuple[int, ...], shapes: ShapeOptions, batch: int
) -> None:
    config, profile = FakeConfig(), FakeProfile()
    build = native_build(images, network, shapes, profile)
    assert build._calibration(config, build._add_profile(config)).get_batch_size() == batch
    assert config.profiles == ([profile] if -1 in network else [])
    assert [best for _, best, _ in profile.shapes.values()] == ([(batch, 3, SIDE, SIDE)] if -1 in network else [])


@pytest.mark.parametrize(
    ("version", "network", "features"),
    [
        ((8, 5, 3), (-1, 3, SIDE, SIDE), {}),
        ((8, 6, 0), (-1, 3, SIDE, SIDE), {"shared": True}),
        ((8, 6, 0), (1, 3, SIDE, SIDE), {}),
        ((10, 0, 0), (-1, 3, SIDE, SIDE), {}),
    ],
)
def test_free_sizes_are_built_for_several_contexts_where_that_has_to_be_asked_for(
    images: CalibrationImages, version: tuple[int, ...], network: tuple[int, ...], features: dict[str, bool]
) -> None:
    config = FakeConfig()
    native_build(images, network, ShapeOptions(), FakeProfile(), version)._add_profile(config)
    assert config.features == features


@pytest.mark.parametrize("network", [(1, 3, SIDE, 2 * SIDE), (-1, 3, -1, -1)])
def test_pictures_of_another_size_than_the_engines_are_refused(
    images: CalibrationImages, network: tuple[int, ...]
) -> None:
    shapes = ShapeOptions(best={"images": (1, 3, SIDE, 2 * SIDE)}) if -1 in network else ShapeOptions()
    build = native_build(images, network, shapes, FakeProfile())
    with pytest.raises(PerceptionError, match=rf"1x3x{SIDE}x{SIDE}, .* \(1, 3, {SIDE}, {2 * SIDE}\); .*--optShapes"):
        build._calibration(FakeConfig(), build._add_profile(FakeConfig()))


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
