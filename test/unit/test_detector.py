"""The detector around a backend of known behaviour: what it accepts, which backend it opens, what it frees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import BACKENDS, backend_class, backend_table, create_backend
from trt_perception.backends.base import Backend, BackendInfo
from trt_perception.backends.first_backend import open_first
from trt_perception.detector import Detector
from trt_perception.errors import (
    BackendError,
    BackendUnavailableError,
    ImageError,
    ModelFileError,
    OutputError,
    PerceptionError,
)
from trt_perception.model_file import InputSpec, ModelFile
from trt_perception.preprocess import Preprocessor
from trt_perception.types import Image, TensorSpec, Thresholds, as_image

BROKEN = {"fake": {"refuse_to_open": True}}
PICTURE = np.zeros((480, 640, 3), np.uint8)


def test_five_lines_find_something(fake_backend: str, fake_model: ModelFile) -> None:
    with Detector.open(fake_model, fake_backend) as detector:
        result = detector.detect(PICTURE)
    # The middle of the network's input is the middle of the picture, twice as large.
    np.testing.assert_allclose(result.detections.boxes_xyxy, [[256, 208, 384, 272]])
    assert [fake_model.label(int(c)) for c in result.detections.class_ids] == ["seven"]
    times = result.times
    assert min(times.preprocess_ns, times.inference_ns, times.postprocess_ns) > 0
    assert times.total_ns == times.preprocess_ns + times.inference_ns + times.postprocess_ns
    assert list(times.durations_ms()) == ["preprocess_ms", "inference_ms", "postprocess_ms"]


def test_thresholds_are_the_models_unless_others_are_given(fake_backend: str, fake_model: ModelFile) -> None:
    strict = replace(fake_model, thresholds=Thresholds(score=0.95))
    with Detector.open(strict, fake_backend) as detector:
        assert len(detector.detect(PICTURE).detections) == 0
        detector.thresholds = Thresholds(score=0.5)
        assert len(detector.detect(PICTURE).detections) == 1
    with Detector.open(strict, fake_backend, thresholds=Thresholds(score=0.1)) as detector:
        assert len(detector.detect(PICTURE).detections) == 1


@pytest.mark.parametrize("order", ["bgr", "rgb", "bgra", "rgba", "gray"])
def test_every_colour_order_is_accepted(fake_backend: str, fake_model: ModelFile, order: Any) -> None:
    channels = {"bgr": 3, "rgb": 3, "bgra": 4, "rgba": 4, "gray": 1}[order]
    pixels = np.zeros((48, 64, channels), np.uint8)
    with Detector.open(fake_model, fake_backend) as detector:
        for picture in (pixels, Image(pixels, order)):
            assert len(detector.detect(picture, order).detections) == 1
        assert len(detector.detect(pixels[:, :, 0]).detections) == 1


@pytest.mark.parametrize(
    ("pixels", "order", "words"),
    [
        (None, "bgr", "got a NoneType; expected a uint8 NumPy array (was the picture read at all?)"),
        (np.zeros((4, 4, 3)), "bgr", "got a float64 array of shape (4, 4, 3); a bgr picture is uint8"),
        (np.zeros((4, 4, 4), np.uint8), "bgr", "(height, width, 3)"),
        (np.zeros((4, 4, 3), np.uint8), "rgba", "(height, width, 4)"),
        (np.zeros((4, 4, 3), np.uint8), "cmyk", "colour order 'cmyk' is not known; use one of bgr"),
        (np.zeros((1, 4, 4, 3), np.uint8), "bgr", "shape (1, 4, 4, 3)"),
        (np.zeros((4, 4), np.float32), "gray", "got a float32 array"),
    ],
)
def test_what_is_no_picture_is_refused(pixels: Any, order: Any, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        as_image(pixels, order)
    assert words in str(caught.value)


def test_an_empty_picture_is_refused_and_the_next_is_fine(fake_backend: str, fake_model: ModelFile) -> None:
    with Detector.open(fake_model, fake_backend) as detector:
        with pytest.raises(ImageError, match="the image is 640x0"):
            detector.detect(PICTURE[:0])
        assert len(detector.detect(PICTURE).detections) == 1


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ({"output": "not_a_number"}, OutputError, "NaN or infinite"),
        ({"output": "shape"}, OutputError, "expects .batch, 14, anchors."),
        ({"fail_from": 1}, BackendError, "inference 1 fails"),
    ],
)
def test_a_bad_frame_is_an_error_and_not_an_empty_result(
    fake_backend: str, fake_model: ModelFile, setting: dict[str, Any], error: type[Exception], words: str
) -> None:
    opened = Detector.open(fake_model, fake_backend, settings={"fake": setting})
    with opened as detector, pytest.raises(error, match=words):
        detector.detect(PICTURE)


def test_warm_up_tells_each_frame(fake_backend: str, fake_model: ModelFile) -> None:
    with Detector.open(fake_model, fake_backend) as detector:
        assert len(detector.warm_up(5).frame_ns) == 5
        assert min(detector.warm_up().frame_ns) > 0


def test_a_closed_detector_says_so(fake_backend: str, fake_model: ModelFile) -> None:
    detector = Detector.open(fake_model, fake_backend)
    detector.close()
    detector.close()
    with pytest.raises(BackendError, match="is not open; call open"):
        detector.detect(PICTURE)


class Recording(Backend):
    """Says what it was told to say of its input, and counts its closings."""

    name = "recording"
    artifact_kind = "onnx"
    devices = ("cpu",)
    precisions = ()
    input_spec = TensorSpec("images", "float32", (1, 3, 320, 320))
    closed = 0

    def _open(self) -> BackendInfo:
        spec = type(self).input_spec
        return BackendInfo("recording", str(self.request), "cpu", "", "", "fp32", "", (spec,), (), {})

    def _infer(self, batch: Any) -> Any:
        type(self).received, type(self).memory = batch.copy(), batch.ctypes.data
        raise BackendError("recorded")

    received: Any = None
    memory = 0

    def _close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> type[Recording]:
    monkeypatch.setitem(BACKENDS, "recording", f"{__name__}:Recording")
    monkeypatch.setattr(Recording, "closed", 0)
    monkeypatch.setattr(Recording, "input_spec", Recording.input_spec)
    monkeypatch.setattr(Recording, "least_batch", Recording.least_batch)
    return Recording


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((1, 3, 320, 320), True),
        ((None, 3, None, None), True),
        ((1, 3, 640, 640), False),
        ((1, 1, 320, 320), False),
        ((4, 3, 320, 320), True),
        ((3, 320, 320), False),
    ],
)
def test_model_file_and_network_must_agree_on_the_size(
    recording: type[Recording], fake_model: ModelFile, shape: tuple[int | None, ...], fits: bool
) -> None:
    recording.input_spec = TensorSpec("images", "float32", shape)
    if fits:
        Detector.open(fake_model, "recording").close()
        return
    with pytest.raises(BackendError, match=r"is to be run on \(3, 320, 320\).*but the network takes images"):
        Detector.open(fake_model, "recording")
    assert recording.closed == 1


def test_fewer_pictures_than_the_least_are_filled_up(recording: type[Recording], fake_model: ModelFile) -> None:
    recording.input_spec = TensorSpec("images", "float32", (None, 3, 320, 320))
    picture = np.ones((1, 3, 320, 320), np.float32)
    for least, taken in ((0, 1), (4, 4), (1, 1)):
        recording.least_batch = least  # type: ignore[assignment]
        recorded = pytest.raises(BackendError, match="recorded")
        with create_backend(BackendRequest.parse("recording"), fake_model) as backend, recorded:
            backend.infer(picture)
        assert recording.received.shape == (taken, 3, 320, 320)
        assert recording.received[:1].all() and not recording.received[1:].any()


def test_a_network_of_whole_numbers_gets_pixels_or_is_refused(
    recording: type[Recording], fake_model: ModelFile
) -> None:
    recording.input_spec = TensorSpec("images", "uint8", (1, 3, 320, 320))
    with pytest.raises(BackendError, match=r"only as uint8 with input.scale 1.0 and no mean and std"):
        Detector.open(fake_model, "recording")
    plain = replace(fake_model, input=InputSpec(320, 320, scale=1.0, resize="stretch"))
    pixels = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    with Detector.open(plain, "recording") as detector, pytest.raises(BackendError, match="recorded"):
        detector.detect(pixels, "rgb")
    np.testing.assert_array_equal(recording.received, pixels.transpose(2, 0, 1)[None])
    recording.input_spec = TensorSpec("images", "int8", (1, 3, 320, 320))
    with pytest.raises(BackendError, match="only as uint8"):
        Detector.open(plain, "recording")


def test_a_network_of_half_precision_gets_it(recording: type[Recording], fake_model: ModelFile) -> None:
    recording.input_spec = TensorSpec("images", "float16", (1, 3, 320, 320))
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    expected, _ = Preprocessor(fake_model.input)(Image(pixels, "bgr"))
    memory = set()
    with Detector.open(fake_model, "recording") as detector:
        for _ in range(2):
            with pytest.raises(BackendError, match="recorded"):
                detector.detect(pixels)
            memory.add(recording.memory)
    np.testing.assert_array_equal(recording.received, expected.astype(np.float16))
    assert len(memory) == 1


def test_an_unknown_head_closes_what_was_opened(recording: type[Recording], fake_model: ModelFile) -> None:
    with pytest.raises(ModelFileError, match="head 'nohead' is not known"):
        Detector.open(replace(fake_model, head="nohead"), "recording")
    assert recording.closed == 1


# --- which backend runs ---------------------------------------------------------------------------------------


def test_the_first_backend_runs_and_the_others_are_not_looked_at(fake_backend: str, fake_model: ModelFile) -> None:
    for fallback in (False, True):
        backend = open_first(fake_model, [fake_backend, "nosuch"], allow_fallback=fallback)
        assert (backend.info.backend, backend.info.fallback_reason) == ("fake", None)
        backend.close()


def test_without_fallback_the_first_error_is_the_answer(
    fake_backend: str, recording: type[Recording], fake_model: ModelFile
) -> None:
    with pytest.raises(BackendUnavailableError, match="told not to open"):
        open_first(fake_model, [fake_backend, "recording"], settings=BROKEN)


def test_with_fallback_the_next_runs_and_says_why(
    fake_backend: str, recording: type[Recording], fake_model: ModelFile
) -> None:
    with Detector.open(fake_model, [fake_backend, "recording"], allow_fallback=True, settings=BROKEN) as detector:
        reason = detector.info.fallback_reason
    assert reason is not None
    assert reason.startswith("runs recording instead of fake: fake: told not to open")


def test_with_fallback_a_backend_without_its_artifact_is_passed_over(fake_backend: str, fake_model: ModelFile) -> None:
    backend = open_first(fake_model, ["torchscript", fake_backend], allow_fallback=True)
    assert "no torchscript artifact" in (backend.info.fallback_reason or "")
    backend.close()


def test_when_none_runs_each_says_why(fake_backend: str, fake_model: ModelFile) -> None:
    with pytest.raises(PerceptionError) as caught:
        open_first(fake_model, [fake_backend, "nosuch", "torchscript"], allow_fallback=True, settings=BROKEN)
    message = str(caught.value)
    for words in ("no backend can run", "told not to open", "no backend 'nosuch'", "no torchscript artifact"):
        assert words in message


@pytest.mark.parametrize("backends", [[], ()])
def test_no_backend_at_all(fake_model: ModelFile, backends: Any) -> None:
    with pytest.raises(PerceptionError, match="list of backends is empty"):
        open_first(fake_model, backends)


def test_a_misspelt_request_is_refused_although_it_would_not_be_needed(
    fake_backend: str, fake_model: ModelFile
) -> None:
    with pytest.raises(PerceptionError, match="not of the form"):
        open_first(fake_model, [fake_backend, "onnx:runtime"])


def test_settings_of_a_backend_that_does_not_exist_are_refused(fake_backend: str, fake_model: ModelFile) -> None:
    with pytest.raises(PerceptionError, match=r"settings for fakke; backends are .*fake"):
        open_first(fake_model, fake_backend, settings={"fakke": {}})


def test_a_changed_artifact_is_not_run(fake_backend: str, fake_model: ModelFile) -> None:
    locked = {"onnx": replace(fake_model.artifact("onnx"), sha256="0" * 64)}
    with pytest.raises(ModelFileError, match=r"fake\.onnx has sha256"):
        open_first(replace(fake_model, artifacts=locked), fake_backend)


# --- the table ------------------------------------------------------------------------------------------------


def test_an_unknown_backend_names_those_that_exist() -> None:
    with pytest.raises(BackendError, match=f"no backend 'nosuch'; choose one of .*{'.*'.join(sorted(BACKENDS))}"):
        backend_class("nosuch")


def test_another_package_adds_a_backend_and_cannot_replace_one(
    fake_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fake_backend in backend_table()
    assert backend_class(fake_backend).name == "fake"
    assert backend_table()["onnxruntime"] == BACKENDS["onnxruntime"]


def test_an_entry_that_is_no_backend_is_refused(monkeypatch: pytest.MonkeyPatch, fake_model: ModelFile) -> None:
    monkeypatch.setitem(BACKENDS, "odd", "pathlib:Path")
    with pytest.raises(BackendError, match="registered as pathlib:Path, which is not a Backend class"):
        create_backend(BackendRequest("odd"), fake_model)
