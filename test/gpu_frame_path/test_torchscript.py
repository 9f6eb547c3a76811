"""TorchScript's short way on a real GPU: CUDA graphs, page-locked memory, half precision."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.frames import LETTERBOX, SIZES, SPECS, random_frame
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.frame_path import FramePlan, Survivors
from trt_perception.backends.frame_sampling import SOURCE_LAYOUTS
from trt_perception.backends.torch_frame_path import TorchFramePath
from trt_perception.backends.torch_launcher import CudaLauncher
from trt_perception.backends.torchscript_backend import TorchScriptBackend
from trt_perception.class_choice import ClassChoice
from trt_perception.detector import Detector
from trt_perception.encodings import decode_frame
from trt_perception.evaluation import pairwise_iou
from trt_perception.preprocess import Preprocessor
from trt_perception.scenes import heldout_scenes
from trt_perception.types import Detections, Thresholds

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
if not torch.cuda.is_available():
    pytest.skip("this torch finds no GPU", allow_module_level=True)

CHOICE = ClassChoice(Thresholds(score=0.5), ("a", "b", "c"))
GRAPHS = pytest.mark.parametrize("graphs", [True, False], ids=["graph", "no graph"])


class Averages(torch.nn.Module):
    """Boxes and scores that depend on the picture: (batch, 4 + classes, cells of 16x16)."""

    def forward(self, pictures: Any) -> Any:
        means = torch.nn.functional.avg_pool2d(pictures, 16).flatten(2)
        return torch.cat((means[:, :1] * 150, means * 100, means), dim=1)


class Unrecordable(torch.nn.Module):
    """Looks at its values on the host, which a CUDA graph cannot hold."""

    def forward(self, pictures: Any) -> Any:
        means = torch.nn.functional.avg_pool2d(pictures, 16).flatten(2)
        if float(means.max()) > 2.0:
            means = means * 0.0
        return torch.cat((means[:, :1] * 150, means * 100, means), dim=1)


def save(module: Any, folder: Path) -> Path:
    path = folder / "net.torchscript"
    torch.jit.save(torch.jit.script(module), str(path))
    return path


def launcher(*, graphs: bool) -> CudaLauncher:
    return CudaLauncher(torch, torch.device("cuda:0"), graphs=graphs)


@contextmanager
def opened(path: Path, request: str = "torchscript:cuda", **settings: Any) -> Iterator[TorchScriptBackend]:
    with TorchScriptBackend(BackendRequest.parse(request), path, settings=settings) as backend:
        yield backend


@GRAPHS
@pytest.mark.parametrize("name", SPECS)
def test_the_input_is_the_preprocessors_to_the_last_bit(name: str, graphs: bool) -> None:
    spec = SPECS[name]
    with_graph = launcher(graphs=graphs)
    path = TorchFramePath(torch, with_graph, lambda x: [x * 1.0], FramePlan(spec, "detr", False, 0), torch.float32)
    assert (with_graph.no_graph_reason is None) == graphs
    for size in SIZES:
        frame = random_frame("bgr8", *size)
        expected, _ = Preprocessor(spec)(decode_frame(frame))
        (found,) = path.run([frame], CHOICE).found
        assert not isinstance(found, Survivors)
        # A GPU may contract a product and a sum into one operation, which rounds once.
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("encoding", SOURCE_LAYOUTS)
def test_every_encoding(encoding: str) -> None:
    plan = FramePlan(LETTERBOX, "detr", False, 0)
    path = TorchFramePath(torch, launcher(graphs=True), lambda x: [x * 1.0], plan, torch.float32)
    for padding in (0, 6):
        frame = random_frame(encoding, 330, 190, 3, padding)
        expected, _ = Preprocessor(LETTERBOX)(decode_frame(frame))
        for _ in range(2):
            (found,) = path.run([frame], CHOICE).found
            np.testing.assert_array_equal(found[0], expected)  # type: ignore[index]


def test_memory_on_the_host_is_page_locked() -> None:
    like = torch.zeros((4, 5), device="cuda:0")
    assert launcher(graphs=True).host_tensor(like).is_pinned()


def rows(path: TorchFramePath, frames: Any) -> list[Any]:
    found = path.run(frames, CHOICE).found
    assert all(isinstance(f, Survivors) for f in found)
    return [np.column_stack((f.boxes_xyxy, f.scores, f.class_ids)) for f in found if isinstance(f, Survivors)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_graphs_change_nothing_whatever_comes_next(dtype: str) -> None:
    network = Averages().cuda().eval()
    plan = FramePlan(LETTERBOX, "yolov8", True, 3)

    def run(pictures: Any) -> list[Any]:
        return [network(pictures).float()]

    with_graph, without = (
        TorchFramePath(torch, launcher(graphs=g), run, plan, getattr(torch, dtype)) for g in (True, False)
    )
    frames = [random_frame("bgr8", *size, seed) for seed, size in enumerate(SIZES)]
    frames.append(random_frame("nv12", 320, 180, 9))
    for chosen in ([0], [1], [0], [5], [0, 1], [1, 0], [2, 3, 4, 5], [0], [0, 1]):
        these = [frames[i] for i in chosen]
        for one, other in zip(rows(with_graph, these), rows(without, these), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


def test_what_cannot_be_recorded_runs_without_a_graph_and_says_so(tmp_path: Path) -> None:
    plan = FramePlan(LETTERBOX, "yolov8", True, 3)
    frame = random_frame("bgr8", 320, 180, 9)
    with opened(save(Averages(), tmp_path)) as backend:
        path = backend.frame_path(plan)
        assert isinstance(path, TorchFramePath) and backend.info.notes == ()
        (expected,) = rows(path, [frame])
    with opened(save(Unrecordable(), tmp_path)) as backend:
        path = backend.frame_path(plan)
        assert isinstance(path, TorchFramePath)
        assert any(note.startswith("no CUDA graph: ") for note in backend.info.notes)
        for _ in range(2):
            np.testing.assert_allclose(rows(path, [frame])[0], expected, rtol=1e-5)


def test_a_profile_is_of_the_network_alone(tmp_path: Path) -> None:
    plan = FramePlan(LETTERBOX, "yolov8", True, 3)
    with opened(save(Averages(), tmp_path), profile_to=str(tmp_path / "trace.json")) as backend:
        assert "profile" in str(backend.frame_path(plan))


def detect_all(request: str, scenes: list[Any]) -> list[Detections]:
    with Detector.open("digits", request) as detector:
        return [detector.detect(scene).detections for scene in scenes]


@pytest.mark.parametrize(("request_text", "atol", "iou"), [("torchscript:cuda", 1e-3, 0.99)])
def test_the_demo_model_finds_what_the_plain_way_finds(
    request_text: str, atol: float, iou: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    scenes = [scene.image_bgr for scene in heldout_scenes(20, 640, 480, 5)]
    short = detect_all(request_text, scenes)
    monkeypatch.setattr(TorchScriptBackend, "frame_path", lambda backend, plan: None)
    plain = detect_all(request_text, scenes)
    assert sum(map(len, plain)) > 50
    for found, wanted in zip(short, plain, strict=True):
        np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=atol)
        assert np.diag(pairwise_iou(found.boxes_xyxy, wanted.boxes_xyxy)).min(initial=1.0) >= iou


def test_half_precision_finds_nearly_the_same() -> None:
    scenes = [scene.image_bgr for scene in heldout_scenes(20, 640, 480, 5)]
    full, half = detect_all("torchscript:cuda", scenes), detect_all("torchscript:cuda:fp16", scenes)
    pairs = [
        pairwise_iou(a.boxes_xyxy, b.boxes_xyxy).max(axis=1) for a, b in zip(full, half, strict=True) if len(a) * len(b)
    ]
    assert np.mean(np.concatenate(pairs) > 0.9) > 0.95


def test_close_frees_the_memory_of_the_device() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    held = []
    for _ in range(4):
        with Detector.open("digits", "torchscript:cuda") as detector:
            detector.detect(picture)
        del detector
        gc.collect()
        held.append(torch.cuda.memory_allocated())
    assert held[-1] <= held[1]
