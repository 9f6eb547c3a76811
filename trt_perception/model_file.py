"""The model file: everything a model needs to be run, and nothing about ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from trt_perception.checksum import model_sha256
from trt_perception.errors import ModelFileError
from trt_perception.external_data import external_files
from trt_perception.types import Thresholds

Resize: TypeAlias = Literal["letterbox", "letterbox_top_left", "stretch", "crop"]
NetworkColor: TypeAlias = Literal["rgb", "bgr", "gray"]

RESIZE_MODES: tuple[Resize, ...] = ("letterbox", "letterbox_top_left", "stretch", "crop")
NETWORK_COLORS: tuple[NetworkColor, ...] = ("rgb", "bgr", "gray")
ONNX = "onnx"
ARTIFACT_KINDS = (ONNX, "torchscript", "engine")
MAX_SIDE_PX = 16384
TASKS = ("detect", "classify")
# The table of heads lies above the reader of model files, which has to name the line of a name that is not in it.
HEAD_NAMES = (
    "yolov8",
    "yolov5",
    "yolox",
    "end_to_end",
    "rtdetr",
    "detr",
    "torchvision",
    "ssd",
    "efficient_nms",
    "classification",
)


@dataclass(frozen=True)
class InputSpec:
    """What the network expects of its input tensor, NCHW.

    width, height: pixels. value = (pixel * scale - mean) / std for each channel, pixel in 0..255.
    resize: `letterbox` keeps the aspect ratio, puts the picture into the middle and fills the border with pad_value,
    `letterbox_top_left` puts it into the left upper corner (as YOLOX does), `stretch` does not keep the ratio,
    `crop` scales the short side to short_side pixels and cuts the centre out (as ImageNet models are evaluated);
    short_side counts there alone, and is at least the longer of width and height. Raises ModelFileError if not.
    """

    width: int
    height: int
    color_order: NetworkColor = "rgb"
    resize: Resize = "letterbox"
    pad_value: int = 114
    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    short_side: int = 0

    def __post_init__(self) -> None:
        if self.resize == "crop" and self.short_side < max(self.width, self.height):
            raise ModelFileError(
                f"short_side is {self.short_side}; a {self.width}x{self.height} crop needs at least "
                f"{max(self.width, self.height)}"
            )

    @property
    def channels(self) -> int:
        """Channels of the input tensor."""
        return 1 if self.color_order == "gray" else 3

    @property
    def batch_shape(self) -> tuple[int, int, int, int]:
        """Of one picture: 1, channels, height, width."""
        return 1, self.channels, self.height, self.width


@dataclass(frozen=True)
class Artifact:
    """A file that one kind of backend loads, with the hash it must have (None: not checked).

    external_data: of an ONNX whose weights lie in files of their own, location in the ONNX → the hash of that file.
    """

    path: Path
    sha256: str | None = None
    external_data: Mapping[str, str] = field(default_factory=dict)

    def verify(self, kind: str) -> None:
        """Raises ModelFileError when the file is absent or its content is not what sha256 says.

        kind: of ARTIFACT_KINDS. The weights beside an ONNX belong to its content.
        """
        if not self.path.is_file():
            raise ModelFileError(f"the model's file {self.path} does not exist; correct its path in the model file")
        if self.sha256 is None:
            return
        _require_hash(self.path, self.sha256)
        if kind != ONNX:
            return
        files = external_files(self.path)
        for location, wanted in self.external_data.items():
            if location not in files:
                raise ModelFileError(
                    f"{self.path} takes no weights from {location!r}, of which the model file gives a sha256; it takes "
                    f"them from {', '.join(files) or 'no other file'}"
                )
            _require_hash(files[location], wanted)
        unchecked = [location for location in files if location not in self.external_data]
        if unchecked:
            raise ModelFileError(
                f"{self.path} has a sha256 in the model file, but the weights beside it have none; add "
                f"external_data: {{{', '.join(f'{location}: SHA256' for location in unchecked)}}}"
            )


@dataclass(frozen=True)
class ModelFile:
    """A model as its YAML file describes it; see `model_file_reader` for the keys."""

    name: str
    task: str
    artifacts: Mapping[str, Artifact]
    input: InputSpec
    head: str = "auto"
    labels: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    path: Path | None = None

    def artifact(self, kind: str) -> Artifact:
        """The artifact of that kind; raises ModelFileError when the model has none."""
        try:
            return self.artifacts[kind]
        except KeyError:
            raise ModelFileError(
                f"model {self.name!r} has no {kind} artifact (it has: {', '.join(self.artifacts) or 'none'}); "
                f"add artifacts.{kind}.path to {self.path or 'its model file'} or choose another backend"
            ) from None

    def label(self, class_id: int) -> str:
        """The name of a class, or its number where the model names fewer classes."""
        return self.labels[class_id] if 0 <= class_id < len(self.labels) else str(class_id)


def _require_hash(path: Path, wanted: str) -> None:
    found = model_sha256(path)
    if found != wanted:
        raise ModelFileError(
            f"{path} has sha256 {found}, the model file says {wanted}; "
            "the file was changed or damaged: fetch it again, or correct the model file if the change is wanted"
        )
