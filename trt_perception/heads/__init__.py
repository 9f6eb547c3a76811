"""The table of heads: a new one is a file and a line here."""

from __future__ import annotations

from trt_perception.errors import ModelFileError
from trt_perception.heads.base import Candidates, Head, HeadContext
from trt_perception.heads.classification import ClassificationHead
from trt_perception.heads.detr import DetrHead, RtDetrHead
from trt_perception.heads.efficient_nms import EfficientNmsHead
from trt_perception.heads.end_to_end import EndToEndHead
from trt_perception.heads.suppressed import SsdHead, TorchvisionHead
from trt_perception.heads.yolov5 import Yolov5Head
from trt_perception.heads.yolov8 import Yolov8Head
from trt_perception.heads.yolox import YoloxHead

__all__ = ["HEADS", "Candidates", "Head", "HeadContext", "head_for"]

HEADS: dict[str, type[Head]] = {
    "yolov8": Yolov8Head,
    "yolov5": Yolov5Head,
    "yolox": YoloxHead,
    "end_to_end": EndToEndHead,
    "rtdetr": RtDetrHead,
    "detr": DetrHead,
    "torchvision": TorchvisionHead,
    "ssd": SsdHead,
    "efficient_nms": EfficientNmsHead,
    "classification": ClassificationHead,
}


def head_for(name: str) -> Head:
    """The head of that name; raises ModelFileError for an unknown one."""
    if name not in HEADS:
        raise ModelFileError(f"head {name!r} is not known; use one of {', '.join(HEADS)}, or auto")
    return HEADS[name]()
