"""The detector: one picture in, detections and the time of each stage out; any model, any backend."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trt_perception.backends.base import Backend, BackendInfo
from trt_perception.backends.first_backend import open_first, parse_requests
from trt_perception.backends.frame_path import FramePlan, RawFrameOutputs, Survivors
from trt_perception.class_choice import ClassChoice
from trt_perception.encodings import decode_frame, frame_of_image
from trt_perception.errors import BackendError, PerceptionError
from trt_perception.heads import Candidates, Head, HeadContext, head_for
from trt_perception.heads.recognise import AUTO, Recognised, recognise
from trt_perception.model_file import Artifact, ModelFile
from trt_perception.models import DEMO_MODEL, load_model
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.placement import NetworkToImage, place, require_pixels
from trt_perception.plain_path import PlainPath
from trt_perception.postprocess import choose, postprocess
from trt_perception.stage_ranges import stage
from trt_perception.types import (
    AnyArray,
    ColorOrder,
    Detections,
    FrameResult,
    Image,
    StageTimes,
    TensorSpec,
    Thresholds,
    as_image,
)

# The first runs of a network allocate, choose algorithms and, in torch, compile: three see all of that.
WARM_UP_FRAMES = 3


@dataclass(frozen=True)
class WarmUp:
    """How long each frame or batch before the first real one took, nanoseconds: apart from every other figure."""

    frame_ns: tuple[int, ...]


class Detector:
    """Runs a model on an opened backend. One thread at a time; close() or `with` frees everything.

    with Detector.open("digits", "onnxruntime:cpu") as detector:
        result = detector.detect(cv2.imread("photo.png"))
        print(result.detections.boxes_xyxy, result.times.durations_ms())
    """

    def __init__(self, model: ModelFile, backend: Backend, thresholds: Thresholds | None = None) -> None:
        """Takes over an opened backend: closing the detector closes it.

        Raises ModelFileError for an unknown head, for one that cannot be recognised and for class names that the
        model does not have, BackendError when the model file and the artifact disagree on the input's size or on the
        range of its values.
        """
        self.model = model
        self.thresholds = thresholds or model.thresholds
        self._backend = backend
        self._dtype = np.dtype(backend.info.inputs[0].dtype)
        _require_size(model, backend.info)
        self._plain = PlainPath(backend, model.input)
        _require_range(model, backend.info)
        names = tuple(output.name for output in backend.info.outputs)
        self._context = HeadContext(model.input.width, model.input.height, len(model.labels), names)
        self.recognised = (
            recognise(self.output_specs(), self._context, backend.info.metadata)
            if model.head == AUTO
            else Recognised(model.head, "the model file names it")
        )
        self._head: Head = head_for(self.recognised.name)
        # Place of the backend in the list that it was chosen from; 0 is the one that was wanted.
        self.backend_index = 0
        plan = FramePlan(model.input, self.recognised.name, self._head.needs_nms, len(model.labels))
        path = backend.frame_path(plan)
        self._path = None if isinstance(path, str) else path
        self._notes: tuple[str, ...] = (
            (f"pictures are prepared on the processor: {path}",) if isinstance(path, str) else ()
        )
        self._one_at_a_time = False

    @classmethod
    def open(
        cls,
        model: str | Path | ModelFile = DEMO_MODEL,
        backends: str | Sequence[str] = "onnxruntime",
        *,
        allow_fallback: bool = False,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        thresholds: Thresholds | None = None,
    ) -> Detector:
        """Loads the model and opens the first of `backends` (`NAME[:DEVICE][:PRECISION]`).

        The others, and another device than the one asked for, are tried only with allow_fallback; what then runs and
        why is in `info.fallback_reason`. settings: backend name → its settings; those of backends that are not used
        may be there too. Raises PerceptionError.
        """
        chosen = model if isinstance(model, ModelFile) else load_model(model)
        backend = open_first(chosen, backends, allow_fallback=allow_fallback, settings=settings)
        try:
            detector = cls(chosen, backend, thresholds)
        except BaseException:
            backend.close()
            raise
        detector.backend_index = parse_requests(backends).index(backend.request)
        return detector

    @property
    def thresholds(self) -> Thresholds:
        """What counts as a detection; may be replaced between two pictures.

        Setting it raises PerceptionError for the name of a class that the model does not have.
        """
        return self._thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds) -> None:
        self._choice = ClassChoice(thresholds, self.model.labels)
        self._thresholds = thresholds

    @property
    def info(self) -> BackendInfo:
        """The backend and device that really run."""
        info = self._backend.info
        return replace(info, notes=info.notes + self._notes) if self._notes else info

    @property
    def artifact(self) -> Artifact | None:
        """The model's artifact that runs."""
        return self.model.artifacts.get(self._backend.choose_artifact(self.model.artifacts))

    def takes(self, frame: CameraFrame) -> bool:
        """True when the device decodes that encoding itself; detect() decodes others on the processor."""
        return self._path is not None and frame.encoding in self._path.encodings

    def explain_fallback(self, reason: str | None) -> None:
        """Says in `info` why this backend runs instead of the one that was wanted; None: it is the one."""
        self._backend.explain_fallback(reason)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The network's outputs; where the artifact leaves more than the batch open, as one run shows them."""
        outputs = self._backend.info.outputs
        if outputs and all(size is not None for output in outputs for size in output.shape[1:]):
            return outputs
        given = self.model.input
        arrays = self._backend.infer(np.zeros((1, given.channels, given.height, given.width), self._dtype)).arrays
        names = [o.name for o in outputs] or [f"output{i}" for i in range(len(arrays))]
        return tuple(TensorSpec(n, str(a.dtype), tuple(a.shape)) for n, a in zip(names, arrays, strict=True))

    @property
    def max_batch(self) -> int | None:
        """How many pictures detect_batch() takes at once, None for any number; 1 after a warm-up that showed it."""
        if self._one_at_a_time:
            return 1
        if self._path is not None:
            return self._path.max_batch
        return self._backend.max_batch if self._head.batched else 1

    def detect(self, image: Image | CameraFrame | AnyArray, color_order: ColorOrder = "bgr") -> FrameResult:
        """Finds objects in an Image or camera frame, or in a uint8 array (height, width[, channels]) of color_order.

        Boxes come back in pixels of that image. Raises ImageError for an array that is no picture, OutputError when
        the network's outputs do not fit the model file, BackendError when the backend fails.
        """
        return self.detect_batch((image,), color_order)[0]

    def detect_batch(
        self, images: Sequence[Image | CameraFrame | AnyArray], color_order: ColorOrder = "bgr"
    ) -> list[FrameResult]:
        """Finds objects in several pictures with one run of the network; the results come in the pictures' order.

        The pictures may differ in size and colour order; the results are those of detect() but for rounding. See
        StageTimes.batch_size on what the times of a batch mean. Raises what detect() does, for all of them when one
        is bad, and PerceptionError for more pictures than max_batch.
        """
        if not images:
            return []
        if len(images) > 1 and self.max_batch is not None and len(images) > self.max_batch:
            raise PerceptionError(
                f"got {len(images)} pictures; model {self.model.name!r} on {self.info.backend} takes "
                f"{self.max_batch} at once: give fewer, or export it with a free batch"
            )
        start = time.monotonic_ns()
        if self._path is not None:
            return self._detect_on_device([self._frame(image, color_order) for image in images], start)
        pictures = [decode_frame(i) if isinstance(i, CameraFrame) else as_image(i, color_order) for i in images]
        return self._plain.run(pictures, self._head, self._context, self._choice)

    def _frame(self, image: Image | CameraFrame | AnyArray, color_order: ColorOrder) -> CameraFrame:
        """What the device takes; other encodings are decoded on the processor first."""
        if not isinstance(image, CameraFrame):
            return frame_of_image(as_image(image, color_order))
        return image if self.takes(image) else frame_of_image(decode_frame(image))

    def _detect_on_device(self, frames: Sequence[CameraFrame], start_ns: int) -> list[FrameResult]:
        """The backend's short way; start_ns: when work on these frames began. Every result has the batch's times."""
        assert self._path is not None
        for frame in frames:
            require_pixels(frame.width, frame.height)
        with stage("frames to boxes"):
            run = self._path.run(frames, self._choice)
        done_ns = time.monotonic_ns()
        with stage("postprocess"):
            detections = [
                self._finish(found, place(self.model.input, frame.width, frame.height)[1])
                for found, frame in zip(run.found, frames, strict=True)
            ]
        end_ns = time.monotonic_ns()
        times = run.times
        # What the clock saw and no stage did is the preparation of the frames: so the stages add up to the whole.
        rest_ns = max(end_ns - start_ns - times.total_ns - (end_ns - done_ns), 0)
        times = StageTimes(
            times.preprocess_ns + rest_ns,
            times.inference_ns,
            times.postprocess_ns + end_ns - done_ns,
            times.inference_start_ns,
            times.host_to_device_ns,
            times.device_to_host_ns,
            around_on_device_ns=times.around_on_device_ns,
            batch_size=len(frames),
        )
        return [FrameResult(found, times) for found in detections]

    def _finish(self, found: Survivors | RawFrameOutputs, way_back: NetworkToImage) -> Detections:
        if not isinstance(found, Survivors):
            return postprocess(found, self._head, self._context, self._choice, way_back)
        if found.suppressed:
            return Detections(way_back.map_boxes(found.boxes_xyxy), found.scores, found.class_ids)
        candidates = Candidates(found.boxes_xyxy, found.scores, found.class_ids)
        return choose(candidates, self._choice, way_back, needs_nms=self._head.needs_nms)

    def warm_up(
        self, frames: int = WARM_UP_FRAMES, width: int = 640, height: int = 480, *, max_batch: int = 1
    ) -> WarmUp:
        """Runs grey pictures through every stage, so that the first real frame is as fast as the others.

        max_batch: besides, each number of pictures from 2 to this one, or the detector's own where that is less, goes
        through together once, since libraries choose their algorithms anew for each. A network that says it takes
        several and cannot is given one at a time from then on, and info.notes says so.
        """
        picture = Image(np.full((height, width, 3), 127, np.uint8), "bgr")
        spent: list[int] = []
        most = max_batch if self.max_batch is None else min(max_batch, self.max_batch)
        for count in [1] * frames + list(range(2, most + 1)):
            start = time.monotonic_ns()
            try:
                self.detect_batch([picture] * count)
            except PerceptionError as error:
                if count == 1:
                    raise
                self._one_at_a_time = True
                self._notes += (f"pictures go through the network one at a time: {error}",)
                break
            spent.append(time.monotonic_ns() - start)
        return WarmUp(tuple(spent))

    def close(self) -> None:
        """Frees the backend; a second call does nothing."""
        self._backend.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_size(model: ModelFile, info: BackendInfo) -> None:
    spec = info.inputs[0]
    wanted = (model.input.channels, model.input.height, model.input.width)
    if len(spec.shape) != 4 or any(has not in (None, want) for has, want in zip(spec.shape[1:], wanted, strict=True)):
        raise BackendError(
            f"model {model.name!r} is to be run on {wanted} (channels, height, width), but the network takes {spec}; "
            "correct `input` in the model file"
        )


def _require_range(model: ModelFile, info: BackendInfo) -> None:
    """A network that takes integers normalises them itself: fractions would all become 0."""
    spec = info.inputs[0]
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return
    given = model.input
    unscaled = given.scale == 1.0 and not any(given.mean) and all(std == 1.0 for std in given.std)
    if spec.dtype != "uint8" or not unscaled:
        raise BackendError(
            f"model {model.name!r}: the network takes {spec}; a picture can be given to it only as uint8 with "
            "input.scale 1.0 and no mean and std: correct `input` in the model file, or export it with a float32 input"
        )
