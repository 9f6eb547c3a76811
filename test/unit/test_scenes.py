"""Composed scenes and the moving scene: the same for the same seed, boxes tight on the ink, digits apart."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_perception.glyphs import blend, make_stamp, upright_ink
from trt_perception.scenes import (
    DigitSet,
    MovingScene,
    Scene,
    SceneStyle,
    compose_scene,
    heldout_data,
    heldout_scenes,
)

GREY = np.full((64, 96, 3), 128, np.uint8)
CLEAN = SceneStyle(digit_count=(3, 3), noise_sigma=(0.0, 0.0), opacity=(1.0, 1.0), contrast_luma=(90.0, 100.0))


def largest_covered_share(boxes_xyxy: NDArray[np.float32]) -> float:
    """The largest share of any box that another box covers."""
    worst = 0.0
    for i, a in enumerate(boxes_xyxy):
        for b in np.delete(boxes_xyxy, i, axis=0):
            common = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
            worst = max(worst, float(common / (a[2:] - a[:2]).prod()))
    return worst


def assert_well_formed(scene: Scene, width: int, height: int) -> None:
    assert scene.image_bgr.shape == (height, width, 3)
    assert scene.image_bgr.dtype == np.uint8
    assert scene.boxes_xyxy.dtype == np.float32
    assert scene.boxes_xyxy.shape == (len(scene.class_ids), 4)
    assert scene.class_ids.dtype == np.int64
    assert len(scene.class_ids) >= 1
    assert set(scene.class_ids.tolist()) <= set(range(10))
    assert (scene.boxes_xyxy[:, :2] >= 0).all()
    assert (scene.boxes_xyxy[:, 2:] <= [width, height]).all()
    assert (scene.boxes_xyxy[:, 2:] - scene.boxes_xyxy[:, :2] >= 2).all()


@pytest.mark.parametrize(("width", "height"), [(320, 320), (640, 480), (200, 321)])
def test_heldout_scenes_are_well_formed_and_digits_apart(width: int, height: int) -> None:
    for scene in heldout_scenes(20, width, height, seed=3):
        assert_well_formed(scene, width, height)
        assert largest_covered_share(scene.boxes_xyxy) <= SceneStyle().overlap_share + 1e-6


def test_heldout_scenes_depend_on_seed_and_index_alone() -> None:
    few, many = list(heldout_scenes(2, 160, 120, seed=5)), list(heldout_scenes(4, 160, 120, seed=5))
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a.image_bgr, b.image_bgr)
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
    other = next(heldout_scenes(1, 160, 120, seed=6))
    assert not np.array_equal(few[0].image_bgr, other.image_bgr)
    assert not np.array_equal(many[2].image_bgr, many[3].image_bgr)


def test_heldout_data_has_every_digit() -> None:
    digits, photos = heldout_data()
    assert digits.images.shape == (len(digits.labels), 8, 8)
    assert digits.images.max() == 16
    assert np.bincount(digits.labels, minlength=10).min() >= 20
    assert len(photos) >= 3
    assert all(photo.ndim == 3 and photo.dtype == np.uint8 for photo in photos)


def test_every_digit_size_of_the_style_is_drawn() -> None:
    heights = np.concatenate([s.boxes_xyxy[:, 3] - s.boxes_xyxy[:, 1] for s in heldout_scenes(60, 320, 320, seed=1)])
    assert heights.min() < 18
    assert heights.max() > 100


def test_boxes_are_tight_on_the_visible_ink() -> None:
    digits, _ = heldout_data()
    checked = 0
    for seed in range(15):
        style = SceneStyle(
            digit_count=(1, 1),
            ink_height_px=(30.0, 60.0),
            noise_sigma=(0.0, 0.0),
            opacity=(1.0, 1.0),
            contrast_luma=(90.0, 100.0),
        )
        scene = compose_scene(np.random.default_rng(seed), digits, [GREY], 160, 120, style)
        ground = scene.image_bgr[0, 0].astype(int)
        change = np.abs(scene.image_bgr.astype(int) - ground).max(axis=2)
        rows, columns = np.nonzero(change >= 0.5 * change.max())
        extent = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        np.testing.assert_allclose(scene.boxes_xyxy[0], extent, atol=1.0)
        checked += 1
    assert checked == 15


def test_ink_stands_out_from_light_and_dark_grounds() -> None:
    digits, _ = heldout_data()
    for level in (5, 128, 250):
        ground = np.full_like(GREY, level)
        scene = compose_scene(np.random.default_rng(0), digits, [ground], 160, 120, CLEAN)
        for left, top, right, bottom in scene.boxes_xyxy.astype(int):
            crop = scene.image_bgr[top:bottom, left:right].astype(float) @ [0.114, 0.587, 0.299]
            assert np.ptp(crop) > 60


def test_a_scene_too_small_for_its_digits_is_refused() -> None:
    digits, photos = heldout_data()
    with pytest.raises(ValueError, match="20x300 px came, too small for digits of 14 px"):
        compose_scene(np.random.default_rng(0), digits, photos, 20, 300)


def test_a_glyph_of_another_shape_or_without_ink_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(7, 8\)"):
        upright_ink(np.zeros((7, 8), np.uint8), 20.0)
    with pytest.raises(ValueError, match="holds no ink"):
        make_stamp(upright_ink(np.zeros((8, 8), np.uint8), 20.0), (0.0, 0.0))


def test_a_stamp_lands_where_it_was_asked_to() -> None:
    ink = upright_ink(np.full((8, 8), 16, np.uint8), 40.0)
    box = make_stamp(ink, (50.0, 60.0)).box_xyxy
    np.testing.assert_allclose((box[:2] + box[2:]) / 2, [50, 60], atol=0.51)
    np.testing.assert_allclose(box[2:] - box[:2], [40, 40], atol=3)
    half = make_stamp(ink, (50.0, 60.0), scale=0.5).box_xyxy
    np.testing.assert_allclose(half[2:] - half[:2], [20, 20], atol=2)


def test_a_stamp_at_the_edge_is_cut_off_and_one_outside_changes_nothing() -> None:
    ink = upright_ink(np.full((8, 8), 16, np.uint8), 40.0)
    image = GREY.copy()
    blend(image, make_stamp(ink, (0.0, 0.0)), (255.0, 255.0, 255.0), 1.0)
    assert (image[:15, :15] == 255).all()
    assert (image[30:, 30:] == 128).all()
    image = GREY.copy()
    blend(image, make_stamp(ink, (-200.0, 0.0)), (255.0, 255.0, 255.0), 1.0)
    np.testing.assert_array_equal(image, GREY)


def test_digits_of_the_given_set_alone_are_drawn() -> None:
    digits, photos = heldout_data()
    sevens = DigitSet(images=digits.images[digits.labels == 7], labels=digits.labels[digits.labels == 7])
    scene = compose_scene(np.random.default_rng(2), sevens, photos, 320, 240, CLEAN)
    assert set(scene.class_ids.tolist()) == {7}


@pytest.mark.parametrize(("width", "height"), [(640, 480), (96, 96), (1280, 720), (480, 640)])
def test_the_moving_scene_stays_inside_and_apart_at_any_size(width: int, height: int) -> None:
    scene = MovingScene(width, height, seed=1)
    for index in range(0, 1000, 50):
        frame = scene.frame(index)
        assert_well_formed(frame, width, height)
        assert len(frame.class_ids) == 6
        assert largest_covered_share(frame.boxes_xyxy) == 0.0


def test_the_moving_scene_is_a_function_of_seed_and_index() -> None:
    scene = MovingScene(320, 240, seed=4)
    later = scene.frame(70)
    scene.frame(3)
    np.testing.assert_array_equal(later.image_bgr, scene.frame(70).image_bgr)
    np.testing.assert_array_equal(later.image_bgr, MovingScene(320, 240, seed=4).frame(70).image_bgr)
    assert not np.array_equal(later.image_bgr, MovingScene(320, 240, seed=5).frame(70).image_bgr)


def test_the_moving_scene_moves_smoothly() -> None:
    scene = MovingScene(640, 480, seed=0)
    centers = np.array([frame.boxes_xyxy.reshape(-1, 2, 2).mean(axis=1) for frame in map(scene.frame, range(240))])
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=2)
    assert steps.max() < 8.0  # pixels per frame
    assert (np.ptp(centers, axis=0).max(axis=1) > 30.0).all()


def test_a_moving_scene_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="64x480 px came, expected at least 96"):
        MovingScene(64, 480)


def test_the_moving_scene_is_fast_enough_for_a_camera() -> None:
    scene = MovingScene(640, 480, seed=0)
    durations_ms = []
    for index in range(40):
        start_ns = time.monotonic_ns()
        scene.frame(index)
        durations_ms.append((time.monotonic_ns() - start_ns) / 1e6)
    # About 3 ms on one idle core; the best of 40 leaves room for a busy machine and still catches a tenfold loss.
    assert min(durations_ms) < 15.0
