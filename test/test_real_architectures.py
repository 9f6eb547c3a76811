"""Networks of others, with random weights: what the detector makes of their export is what they compute themselves.

Each skips where its library (Apache-2.0 or BSD) is not installed; the set-up installs all but torchvision, which
CONTRIBUTING.md has more about. No weights are downloaded: they come from a seeded generator.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_perception.detector import Detector
from trt_perception.model_file import Artifact, InputSpec, ModelFile
from trt_perception.types import Thresholds, Uint8Array

torch = pytest.importorskip("torch", reason="torch is not installed")

WIDTH, HEIGHT = 96, 64
NAMES = ("a", "b", "c", "d", "e")
# Nothing is suppressed, so that every candidate of the network itself can be compared.
ALL = Thresholds(score=0.05, iou=1.0, max_detections=10_000)
ABSENT: dict[str, Any] = {"exc_type": ImportError}


def picture() -> Uint8Array:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def export(module: Any, path: Path, outputs: Sequence[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.rand(1, 3, HEIGHT, WIDTH),),
            str(path),
            opset_version=17,
            input_names=["images"],
            output_names=list(outputs),
            dynamo=False,
        )


def detect(path: Path, spec: InputSpec, labels: tuple[str, ...], head: str, thresholds: Thresholds = ALL) -> Any:
    """Rows of left, top, right, bottom, score, class of the picture; the head has to be recognised."""
    model = ModelFile("net", "detect", {"onnx": Artifact(path)}, spec, labels=labels, thresholds=thresholds)
    with Detector.open(model) as detector:
        assert detector.recognised.name == head, detector.recognised.reason
        found = detector.detect(picture()).detections
    return np.column_stack((found.boxes_xyxy, found.scores, found.class_ids))


def expect_same(found: Any, boxes: Any, scores: Any, classes: Any, least: int = 10) -> None:
    """The same rows above the threshold in whatever order; boxes are cut at the picture's border."""
    rows = np.column_stack((np.clip(boxes, 0, [WIDTH, HEIGHT] * 2), scores, classes))
    expected = rows[np.asarray(scores) > ALL.score]
    assert len(found) == len(expected) >= least
    left = list(range(len(found)))
    for row in expected:
        distances = np.abs(found[left] - row).max(axis=1)
        assert distances.min() < 0.01, f"{row} is not among what was found; the nearest is {distances.min()} away"
        del left[int(distances.argmin())]


def settle(network: Any, white: float = 1.0) -> None:
    """Lets the normalisations learn what random weights give, so that not every place looks the same.

    white: the brightest pixel that the network is given.
    """
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.train()
    network(white * torch.rand(8, 3, 320, 320))
    network.eval()


def to_corners(boxes: Any) -> Any:
    center, size = boxes[:, :2], boxes[:, 2:]
    return torch.cat((center - size / 2, center + size / 2), dim=1)


def test_yolox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torchvision") is None:
        # YOLOX imports it for a suppression that is not part of the network.
        monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    models = pytest.importorskip("yolox.models", reason="yolox is not installed", **ABSENT)
    torch.manual_seed(1)
    width = 0.125
    head = models.YOLOXHead(len(NAMES), width)
    network = models.YOLOX(models.YOLOPAFPN(0.33, width), head).eval()
    with torch.no_grad():
        settle(network, white=255.0)
        for prediction in (*head.obj_preds, *head.cls_preds):
            prediction.weight.normal_(0, 3)
            prediction.bias.zero_()
    head.decode_in_inference = False
    export(network, tmp_path / "net.onnx", ["output"])
    head.decode_in_inference = True
    # YOLOX is given BGR from 0 to 255.
    pixels = torch.from_numpy(picture().transpose(2, 0, 1)[None].astype(np.float32))
    with torch.no_grad():
        own = network(pixels)[0]
    scores, classes = (own[:, 4:5] * own[:, 5:]).max(dim=1)
    spec = InputSpec(WIDTH, HEIGHT, color_order="bgr", scale=1.0)
    found = detect(tmp_path / "net.onnx", spec, NAMES, "yolox")
    expect_same(found, to_corners(own[:, :4]).numpy(), scores.numpy(), classes.numpy())


def rgb_fractions() -> Any:
    return torch.from_numpy(picture()[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255)


class TwoOutputs:
    """What transformers' models return, as two tensors."""

    @staticmethod
    def of(model: Any) -> Any:
        class Wrapped(torch.nn.Module):  # type: ignore[name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, images: Any) -> Any:
                given = self.model(pixel_values=images)
                return given.logits, given.pred_boxes

        return Wrapped().eval()


SIZE = [WIDTH, HEIGHT, WIDTH, HEIGHT]


def test_rtdetr(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed", **ABSENT)
    torch.manual_seed(2)
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        num_labels=len(NAMES),
        encoder_in_channels=[32, 64, 128],
        encoder_hidden_dim=64,
        d_model=64,
        decoder_in_channels=[64, 64, 64],
        # All cells of the three levels, so that near ties in choosing them do not matter.
        num_queries=12 * 8 + 6 * 4 + 3 * 2,
        decoder_layers=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        decoder_attention_heads=4,
        encoder_attention_heads=4,
        num_denoising=0,
        use_pretrained_backbone=False,
    )
    network = TwoOutputs.of(transformers.RTDetrForObjectDetection(config))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "class_embed" in name:
                parameter.normal_(0, 0.3)
        logits, boxes = network(rgb_fractions())
    export(network, tmp_path / "net.onnx", ["logits", "pred_boxes"])
    scores, classes = torch.sigmoid(logits[0]).max(dim=1)
    found = detect(tmp_path / "net.onnx", InputSpec(WIDTH, HEIGHT), NAMES, "rtdetr")
    expect_same(found, (to_corners(boxes[0]) * torch.tensor(SIZE)).numpy(), scores.numpy(), classes.numpy())


def test_detr(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed", **ABSENT)
    torch.manual_seed(3)
    backbone = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_labels=len(NAMES),
        num_queries=40,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
    )
    network = TwoOutputs.of(transformers.DetrForObjectDetection(config))
    with torch.no_grad():
        logits, boxes = network(rgb_fractions())
    export(network, tmp_path / "net.onnx", ["logits", "pred_boxes"])
    scores, classes = torch.softmax(logits[0], dim=1)[:, :-1].max(dim=1)
    found = detect(tmp_path / "net.onnx", InputSpec(WIDTH, HEIGHT), NAMES, "detr")
    expect_same(found, (to_corners(boxes[0]) * torch.tensor(SIZE)).numpy(), scores.numpy(), classes.numpy())


def test_torchvisions_ssd(tmp_path: Path) -> None:
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed", **ABSENT)
    torch.manual_seed(4)
    labels = ("__background__", *NAMES)
    network = detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=len(labels), score_thresh=0.04, detections_per_img=20_000
    ).eval()
    with torch.no_grad():
        settle(network.backbone)
        for parameter in network.head.parameters():
            if parameter.ndim == 4 and parameter.shape[2] == 1:
                parameter.normal_(0, 0.2)
        (own,) = network(rgb_fractions())
    export(network, tmp_path / "net.onnx", ["boxes", "scores", "labels"])
    found = detect(tmp_path / "net.onnx", InputSpec(WIDTH, HEIGHT), labels, "torchvision")
    expect_same(found, own["boxes"].numpy(), own["scores"].numpy(), own["labels"].numpy())
