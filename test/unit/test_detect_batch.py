"""Pictures that go through a network together give what each gives by itself, on the real backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from trt_perception.detector import Detector
from trt_perception.errors import ImageError, OutputError, PerceptionError
from trt_perception.heads import HEADS
from trt_perception.model_file import ModelFile
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Detections, Image

MIN_IOU = 0.99
MAX_SCORE_DIFFERENCE = 1e-3
PICTURE = np.zeros((480, 640, 3), np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """Different scenes, sizes and colour orders, as cameras of one robot may have."""
    first, second, third, fourth = (s.image_bgr for s in heldout_scenes(4, 640, 480, seed=5))
    return [
        Image(np.asarray(first, np.uint8), "bgr"),
        Image(np.asarray(cv2.resize(second, (1920, 1080)), np.uint8), "bgr"),
        Image(np.asarray(cv2.cvtColor(third, cv2.COLOR_BGR2RGB), np.uint8), "rgb"),
        Image(np.asarray(cv2.cvtColor(fourth, cv2.COLOR_BGR2BGRA), np.uint8), "bgra"),
    ]


def assert_same(found: Detections, alone: Detections) -> None:
    assert found.class_ids.tolist() == alone.class_ids.tolist()
    np.testing.assert_allclose(found.scores, alone.scores, rtol=0, atol=MAX_SCORE_DIFFERENCE)
    for a, b in zip(found.boxes_xyxy, alone.boxes_xyxy, strict=True):
        common = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        assert common / (area - common) >= MIN_IOU


@pytest.mark.parametrize(("backend", "library"), [("onnxruntime:cpu", "onnxruntime"), ("torchscript:cpu", "torch")])
def test_a_batch_finds_what_single_pictures_give(backend: str, library: str, pictures: list[Image]) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    with Detector.open("digits", backend) as detector:
        assert detector.max_batch is None
        alone = [detector.detect(picture) for picture in pictures]
        assert sum(len(result.detections) for result in alone) >= 4
        for chosen in ([0, 1, 2, 3], [3, 1], [2], [1, 1, 0]):
            batch = detector.detect_batch([pictures[i] for i in chosen])
            for result, i in zip(batch, chosen, strict=True):
                assert_same(result.detections, alone[i].detections)
            assert {result.times.batch_size for result in batch} == {len(chosen)}
            # One run: the same interval for all, so that whoever unites the intervals counts it once.
            assert len({(r.times.inference_start_ns, r.times.busy_ns) for r in batch}) == 1


def test_a_network_that_takes_two_at_once_refuses_three(
    fake_backend: str, fake_model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Detector.open(fake_model, fake_backend) as detector:
        monkeypatch.setattr(type(detector._backend), "max_batch", 2)
        assert len(detector.detect_batch([PICTURE, PICTURE])) == 2
        with pytest.raises(PerceptionError, match=r"got 3 pictures; model 'fake' on fake takes 2 at once"):
            detector.detect_batch([PICTURE] * 3)


def test_a_graph_for_one_picture_is_found_out(fake_backend: str, fake_model: ModelFile) -> None:
    settings = {"fake": {"output": "one_of_a_batch"}}
    with Detector.open(fake_model, fake_backend, settings=settings) as detector:
        assert len(detector.detect(PICTURE).detections) == 1
        with pytest.raises(OutputError, match="for a batch of 2; its graph was exported for one picture"):
            detector.detect_batch([PICTURE, PICTURE])


def test_no_picture_is_no_result_and_a_bad_one_is_refused(fake_backend: str, fake_model: ModelFile) -> None:
    with Detector.open(fake_model, fake_backend) as detector:
        assert detector.detect_batch([]) == []
        with pytest.raises(ImageError, match="the image is 640x0"):
            detector.detect_batch([PICTURE, PICTURE[:0]])
        assert [len(r.detections) for r in detector.detect_batch([PICTURE, PICTURE[::2]])] == [1, 1]


def test_warm_up_takes_every_batch_that_may_come(fake_backend: str, fake_model: ModelFile) -> None:
    seen: list[int] = []
    with Detector.open(fake_model, fake_backend) as detector:
        infer = detector._backend.infer

        def noting(batch: Any) -> Any:
            seen.append(len(batch))
            return infer(batch)

        detector._backend.infer = noting  # type: ignore[method-assign]
        assert len(detector.warm_up(2, max_batch=3).frame_ns) == 4
    assert seen == [1, 1, 2, 3]


def test_warm_up_tries_no_more_than_the_detector_takes(fake_backend: str, fake_model: ModelFile) -> None:
    settings = {"fake": {"output": "one_of_a_batch"}}
    with Detector.open(fake_model, fake_backend, settings=settings) as detector:
        assert len(detector.warm_up(1, max_batch=3).frame_ns) == 1
        (note,) = detector.info.notes
        assert "its graph was exported for one picture" in note
        # What was found out is not found out again, nor for another reason.
        assert len(detector.warm_up(1, max_batch=3).frame_ns) == 1
        assert detector.info.notes == (note,)


def test_only_outputs_without_a_batch_axis_are_not_batched() -> None:
    def unbatched(names: Sequence[str]) -> list[str]:
        return [name for name in names if not HEADS[name].batched]

    assert unbatched(list(HEADS)) == ["torchvision"]
    assert all(
        head.layout.replace("boxes ", "").startswith(("(batch", "number (batch"))
        for head in HEADS.values()
        if head.batched
    )
