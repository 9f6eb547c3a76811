"""The short way of a frame: from a camera's bytes to boxes with everything in between on the backend's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from trt_perception.class_choice import ClassChoice
from trt_perception.model_file import InputSpec
from trt_perception.types import AnyArray, Float32Array, Int64Array, StageTimes

if TYPE_CHECKING:
    # It loads OpenCV, without which the doctor has to find every backend.
    from trt_perception.pixel_layouts import CameraFrame


@dataclass(frozen=True)
class FramePlan:
    """What has to happen around the network.

    input: how a picture becomes the input tensor; placement.place says where it goes. head: the name of the head that
    the outputs are for. needs_nms: its boxes still have to be suppressed. class_count: 0 when the model does not name
    its classes.
    """

    input: InputSpec
    head: str
    needs_nms: bool
    class_count: int


@dataclass(frozen=True, eq=False)
class Survivors:
    """What was left of one frame's boxes on the device.

    boxes_xyxy: float32 (N, 4), left, top, right, bottom in network pixels; scores: float32 (N,); class_ids: int64
    (N,). The arrays are the caller's. suppressed: they are the detections, best score first; if not, they are all
    candidates that count by the choice's scores, in the order in which the network gave them.
    """

    boxes_xyxy: Float32Array
    scores: Float32Array
    class_ids: Int64Array
    suppressed: bool


# What is said of outputs that do not tell one picture of a batch from another.
EXPORTED_FOR_ONE = "its graph was exported for one picture: export it with a free batch, or give one picture at a time"

# The network's outputs for one frame, each with a batch of one, valid until the next run.
RawFrameOutputs: TypeAlias = tuple[AnyArray, ...]


@dataclass(frozen=True, eq=False)
class FramePathResult:
    """One entry a frame, and the times of all of them together.

    found: a frame whose boxes the device could not choose (a head that it does not know, more candidates than it has
    room for, values that are not finite or not this head's) has its raw outputs here, which the head decodes on the
    host; so results and errors are the plain way's.
    times: of the whole batch, see StageTimes; around_on_device_ns is what of pre- and postprocessing the device did.
    """

    found: tuple[Survivors | RawFrameOutputs, ...]
    times: StageTimes


class FramePath(Protocol):
    """Belongs to an open backend, which closes it; used by one thread at a time.

    encodings: of the frames that it takes; the caller decodes others to 8-bit packed ones first. The five packed
    8-bit encodings (bgr8, rgb8, bgra8, rgba8, mono8) are always among them. max_batch: frames in one run.
    """

    encodings: frozenset[str]
    max_batch: int

    def run(self, frames: Sequence[CameraFrame], choice: ClassChoice) -> FramePathResult:
        """1 to max_batch frames, of any sizes; raises BackendError when the device fails, and stays usable."""
        ...
