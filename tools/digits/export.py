"""Writes the trained network as ONNX and TorchScript, with the metadata that Ultralytics' own exports carry.

Both take `images`, float32 (batch, 3, 320, 320), RGB, 0 to 1, and give `output0`, float32 (batch, 14, 2100): rows 0
to 3 are a box's centre x, centre y, width and height in pixels of the input, rows 4 to 13 the classes' scores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tools.digits.data import LETTERBOX_GREY, SIDE_PX
from tools.digits.network import CLASS_COUNT, MAX_STRIDE_PX, STRIDES_PX, ConvUnit, DigitNet, cell_centers, decode_boxes
from trt_perception.checksum import file_sha256

OPSET = 17
INPUT_NAME = "images"
OUTPUT_NAME = "output0"

_MODEL_FILE = f"""\
# The demo model: handwritten digits on photographs. Written by tools/digits/export.py, after tools/digits/train.py.
name: digits
task: detect
artifacts:  # relative to this file
{{artifacts}}
input:
  width: {SIDE_PX}
  height: {SIDE_PX}
  color_order: rgb
  resize: letterbox
  pad_value: {LETTERBOX_GREY}
  scale: {1 / 255!r}  # value = (pixel * scale - mean) / std
  mean: [0.0, 0.0, 0.0]
  std: [1.0, 1.0, 1.0]
head: yolov8
labels: {json.dumps([str(class_id) for class_id in range(CLASS_COUNT)])}
thresholds: {{{{score: 0.45, iou: 0.45, max_detections: 300}}}}
"""


class ExportedNet(nn.Module):
    """The network as it is shipped: batch norm folded into the convolutions, cells' centres stored as constants.

    Shapes inside are fixed numbers but for the batch, so that the exported graphs compute none at run time.
    """

    centers: Tensor
    strides: Tensor

    def __init__(self, network: DigitNet, side_px: int = SIDE_PX) -> None:
        super().__init__()
        self._network = fold_batch_norm(network.eval())
        sizes = [(side_px // stride, side_px // stride) for stride in STRIDES_PX]
        self._cell_counts = [height * width for height, width in sizes]
        centers, strides = cell_centers(sizes, torch.device("cpu"))
        self.register_buffer("centers", centers[None])
        self.register_buffer("strides", strides[None])

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 320, 320) to (B, 14, 2100)."""
        levels = self._network.levels(images)
        scores = [level.reshape(-1, CLASS_COUNT, n) for (level, _), n in zip(levels, self._cell_counts, strict=True)]
        raw = [level.reshape(-1, 4, n) for (_, level), n in zip(levels, self._cell_counts, strict=True)]
        boxes = decode_boxes(torch.cat(raw, dim=2), self.centers, self.strides)
        return torch.cat([boxes, torch.cat(scores, dim=2).sigmoid()], dim=1)


def fold_batch_norm(network: DigitNet) -> DigitNet:
    """Folds every batch norm into the convolution before it, in place; the network must be in eval mode."""
    for unit in network.modules():
        if isinstance(unit, ConvUnit) and isinstance(unit[1], nn.BatchNorm2d):
            convolution = unit[0]
            assert isinstance(convolution, nn.Conv2d)
            unit[0] = fuse_conv_bn_eval(convolution, unit[1])
            unit[1] = nn.Identity()
    return network


def metadata() -> dict[str, str]:
    """What readers of Ultralytics exports look for (text, as in ONNX metadata_props), and where the model is from."""
    return {
        "description": "Detector of handwritten digits on photographs, the demo model of trt_perception",
        "author": "trt_perception maintainers",
        "license": "Apache-2.0",
        "task": "detect",
        "stride": str(MAX_STRIDE_PX),
        "batch": "1",
        "imgsz": str([SIDE_PX, SIDE_PX]),
        "names": str({class_id: str(class_id) for class_id in range(CLASS_COUNT)}),
    }


def export_onnx(network: ExportedNet, path: Path) -> None:
    """Writes and checks the ONNX file; its batch axis is free."""
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, SIDE_PX, SIDE_PX),),
        str(path),
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
        opset_version=OPSET,
        do_constant_folding=True,
        dynamo=False,
    )
    model = onnx.load(str(path))
    for key, value in metadata().items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def export_torchscript(network: ExportedNet, path: Path) -> None:
    """Writes the TorchScript file, with the metadata as JSON in its extra file config.txt."""
    traced = torch.jit.trace(network, torch.zeros(1, 3, SIDE_PX, SIDE_PX))  # type: ignore[no-untyped-call]
    typed = {**metadata(), "stride": MAX_STRIDE_PX, "batch": 1, "imgsz": [SIDE_PX, SIDE_PX]}
    typed["names"] = {str(class_id): str(class_id) for class_id in range(CLASS_COUNT)}
    torch.jit.save(traced, str(path), _extra_files={"config.txt": json.dumps(typed)})


def write_model_file(folder: Path) -> None:
    """Writes digits.yaml, the model file, beside the two artifacts, with their hashes."""
    artifacts = {kind: f"digits.{kind}" for kind in ("onnx", "torchscript")}
    entries = "\n".join(
        f"  {kind}: {{path: {name}, sha256: {file_sha256(folder / name)}}}" for kind, name in artifacts.items()
    )
    (folder / "digits.yaml").write_text(_MODEL_FILE.format(artifacts=entries), encoding="utf-8")


def load_network(checkpoint: Path) -> DigitNet:
    """Loads the weights that train.py wrote."""
    network = DigitNet()
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return network


def main() -> None:
    """Parses the command line and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the .pt that train.py wrote")
    parser.add_argument("--folder", type=Path, required=True, help="where digits.onnx and digits.torchscript go")
    arguments = parser.parse_args()
    network = ExportedNet(load_network(arguments.checkpoint)).eval()
    with torch.no_grad():
        export_onnx(network, arguments.folder / "digits.onnx")
        export_torchscript(network, arguments.folder / "digits.torchscript")
    write_model_file(arguments.folder)


if __name__ == "__main__":
    main()
