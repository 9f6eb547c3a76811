"""What only torch has around its network on a real GPU: graphs that may fail, half precision, the profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from test.frames import LETTERBOX, random_frame
from test.gpu.frame_checks import on_the_device
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.cuda_frames.path import CudaFramePath
from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.backends.torchscript_backend import TorchScriptBackend
from trt_perception.class_choice import ClassChoice
from trt_perception.detector import Detector
from trt_perception.evaluation import pairwise_iou
from trt_perception.heldout import heldout_scenes
from trt_perception.types import AnyArray, Detections, Thresholds

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed")
if torch.version.cuda is None:
    pytest.skip("this torch was built without CUDA", allow_module_level=True)

CHOICE = ClassChoice(Thresholds(score=0.3), ("a", "b", "c"))
PLAN = FramePlan(LETTERBOX, "yolov8", True, 3)
FRAME = random_frame("nv12", 320, 180, 9)


class Averages(torch.nn.Module):
    """Boxes and scores that depend on the picture: (batch, 4 + classes, cells of 16x16)."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool2d(pictures, 16).flatten(2)
        return torch.cat((means[:, :1] * 150, means * 100, means), dim=1)


class Unrecordable(torch.nn.Module):
    """Looks at its values on the host, which a CUDA graph cannot hold."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool2d(pictures, 16).flatten(2)
        if float(means.max()) > 2.0:
            means = means * 0.0
        return torch.cat((means[:, :1] * 150, means * 100, means), dim=1)


def opened(module: Any, folder: Path, request: str = "torchscript:cuda", **settings: Any) -> TorchScriptBackend:
    path = folder / "net.torchscript"
    torch.jit.save(torch.jit.script(module), str(path))
    return TorchScriptBackend(BackendRequest.parse(request), path, settings=settings)


def rows_of(backend: TorchScriptBackend) -> AnyArray:
    path = backend.frame_path(PLAN)
    assert isinstance(path, CudaFramePath)
    for _ in range(3):
        (found,) = path.run([FRAME], CHOICE).found
    assert isinstance(found, Survivors) and len(found.scores)
    return np.column_stack((found.boxes_xyxy, found.scores, found.class_ids))


@pytest.fixture
def expected(tmp_path: Path) -> AnyArray:
    with opened(Averages(), tmp_path) as backend:
        rows = rows_of(backend)
        assert backend.info.notes == ()
    return rows


def test_without_a_graph(expected: AnyArray, tmp_path: Path) -> None:
    with opened(Averages(), tmp_path, cuda_graph=False) as backend:
        np.testing.assert_allclose(rows_of(backend), expected, rtol=1e-5)
        assert backend.info.notes == ("no CUDA graph: switched off by the setting cuda_graph",)


def test_a_torch_that_does_not_show_its_graphs(
    expected: AnyArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = torch.cuda.CUDAGraph
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph())
    with opened(Averages(), tmp_path) as backend:
        np.testing.assert_allclose(rows_of(backend), expected, rtol=1e-5)
        assert backend.info.notes == ()


def test_what_cannot_be_recorded_runs_without_a_graph_and_says_so(expected: AnyArray, tmp_path: Path) -> None:
    with opened(Unrecordable(), tmp_path) as backend:
        np.testing.assert_allclose(rows_of(backend), expected, rtol=1e-5)
        assert any(note.startswith("no CUDA graph: ") for note in backend.info.notes)


def test_half_precision_is_read_as_it_is(expected: AnyArray, tmp_path: Path) -> None:
    with opened(Averages(), tmp_path, "torchscript:cuda:fp16") as backend:
        half = rows_of(backend)
        assert backend.info.precision == "fp16"
    np.testing.assert_allclose(half[0, 4], expected[0, 4], atol=2e-3)
    assert (half != expected).any()


def test_a_profile_is_of_the_network_alone(tmp_path: Path) -> None:
    with opened(Averages(), tmp_path, profile_to=str(tmp_path / "trace.json")) as backend:
        assert "profile" in str(backend.frame_path(PLAN))


def test_the_same_plan_has_the_same_path(tmp_path: Path) -> None:
    with opened(Averages(), tmp_path) as backend:
        first = backend.frame_path(PLAN)
        assert backend.frame_path(PLAN) is first
        other = backend.frame_path(FramePlan(LETTERBOX, "yolov8", False, 3))
        assert isinstance(first, CudaFramePath) and isinstance(other, CudaFramePath) and other is not first
        other.run([FRAME], CHOICE)
        first.run([FRAME], CHOICE)
        assert backend.frame_path(PLAN) is first


def detect_all(request: str, scenes: list[Any]) -> list[Detections]:
    with Detector.open("digits", request) as detector:
        assert on_the_device(detector).info.precision == ("fp16" if request.endswith("fp16") else "fp32")
        return [detector.detect(scene).detections for scene in scenes]


def test_half_precision_finds_nearly_the_same() -> None:
    scenes = [scene.image_bgr for scene in heldout_scenes(20, 640, 480, 5)]
    full, half = detect_all("torchscript:cuda", scenes), detect_all("torchscript:cuda:fp16", scenes)
    best: list[float] = []
    for wanted, found in zip(full, half, strict=True):
        iou = pairwise_iou(wanted.boxes_xyxy, found.boxes_xyxy)
        best += np.where(wanted.class_ids[:, None] == found.class_ids, iou, 0.0).max(axis=1, initial=0.0).tolist()
    assert len(best) > 20 and np.mean(np.asarray(best) > 0.9) > 0.95
