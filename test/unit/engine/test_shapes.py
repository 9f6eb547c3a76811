from __future__ import annotations

import pytest

from trt_perception.engine.shapes import (
    Profile,
    ShapeOptions,
    one_picture,
    parse_memory_pools,
    parse_shapes,
    profile_for,
    shape_text,
)
from trt_perception.errors import PerceptionError
from trt_perception.model_file import InputSpec


def test_shapes_are_read_as_trtexec_writes_them() -> None:
    assert parse_shapes("images:1x3x320x320,net/mask:0:2x1") == {"images": (1, 3, 320, 320), "net/mask:0": (2, 1)}
    assert shape_text((1, 3, 8, 8)) == "1x3x8x8"


@pytest.mark.parametrize("text", ["", "1x3x8x8", "images:", "images:1x", "images:axb", "i:0x3", "i:1,i:2", ":1x2"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(PerceptionError, match=r"images:1x3x320x320|at least 1"):
        parse_shapes(text)


def test_memory_is_counted_in_mib_unless_a_unit_stands_behind() -> None:
    assert parse_memory_pools("workspace:2048,tacticSharedMem:64K,dlaSRAM:1.5M") == {
        "workspace": 2048 * 2**20,
        "tacticSharedMem": 64 * 2**10,
        "dlaSRAM": 3 * 2**19,
    }
    assert parse_memory_pools("") == {}


@pytest.mark.parametrize("text", ["workspace", "workspace:", "workspace:2T", "heap:1", "workspace:-1"])
def test_other_memory_texts_are_refused(text: str) -> None:
    with pytest.raises(PerceptionError, match="workspace:2048"):
        parse_memory_pools(text)


FREE = (-1, 3, -1, -1)


def test_all_three_shapes_make_the_profile() -> None:
    options = ShapeOptions({"i": (1, 3, 8, 8)}, {"i": (2, 3, 16, 16)}, {"i": (4, 3, 32, 32)})
    assert str(profile_for("i", FREE, options, None)) == "1x3x8x8/2x3x16x16/4x3x32x32"


@pytest.mark.parametrize("given", ["smallest", "best", "largest"])
def test_one_shape_stands_for_all_three(given: str) -> None:
    shape = (2, 3, 16, 16)
    assert profile_for("i", FREE, ShapeOptions(**{given: {"i": shape}}), None) == Profile(shape, shape, shape)


def test_the_models_own_size_stands_in() -> None:
    shape = (1, 3, 320, 320)
    assert profile_for("i", FREE, ShapeOptions(), shape) == Profile(shape, shape, shape)


def test_nothing_known_names_the_options() -> None:
    with pytest.raises(PerceptionError, match="--minShapes, --optShapes and --maxShapes"):
        profile_for("i", FREE, ShapeOptions(), None)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 8)])
def test_fixed_sizes_cannot_be_changed(shape: tuple[int, ...]) -> None:
    with pytest.raises(PerceptionError, match="does not fit the network's"):
        profile_for("i", FREE, ShapeOptions(best={"i": shape}), None)


def test_min_above_max_is_refused() -> None:
    options = ShapeOptions({"i": (4, 3, 8, 8)}, {}, {"i": (2, 3, 8, 8)})
    with pytest.raises(PerceptionError, match="min <= opt <= max"):
        profile_for("i", FREE, options, None)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        ((-1, 3, -1, -1), (1, 3, 16, 32)),
        ((4, 3, -1, -1), (4, 3, 16, 32)),
        ((-1, 3, 8, 8), (1, 3, 16, 32)),  # for the build to refuse
    ],
)
def test_the_models_size_is_built_for_where_none_is_given(network: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert one_picture(network, InputSpec(32, 16)) == shape
