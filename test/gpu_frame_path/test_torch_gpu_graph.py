"""TorchScript's network as it is rewritten for a GPU, against the one that was exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.frames import random_frame
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.frame_path import FramePlan
from trt_perception.backends.torch_gpu_graph import GpuModule
from trt_perception.backends.torchscript_backend import TorchScriptBackend
from trt_perception.class_choice import ClassChoice
from trt_perception.encodings import decode_frame
from trt_perception.model_file import InputSpec
from trt_perception.models import load_model
from trt_perception.preprocess import Preprocessor
from trt_perception.types import AnyArray, Thresholds

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
if torch.version.cuda is None:
    pytest.skip("this torch was built without CUDA", allow_module_level=True)
nn: Any = torch.nn


class Layers(nn.Module):
    """Convolutions and activations, then all values of a picture in one row."""

    def __init__(self, *, by_view: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.by_view = by_view

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        value = nn.functional.silu(self.first(pictures))
        value = value + nn.functional.silu(self.second(value))
        return value.view(pictures.shape[0], -1) if self.by_view else value.flatten(1)


def save(module: Any, folder: Path) -> Path:
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    path = folder / "net.torchscript"
    torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


@contextmanager
def opened(path: Path, request_text: str, **settings: Any) -> Iterator[TorchScriptBackend]:
    with TorchScriptBackend(BackendRequest.parse(request_text), path, settings=settings) as backend:
        yield backend


def pictures(count: int, side: int = 32) -> AnyArray:
    return np.random.default_rng(count).random((count, 3, side, side), np.float32)


def outputs_of(path: Path, request_text: str, batches: list[AnyArray], **settings: Any) -> list[AnyArray]:
    """Each batch several times: torch's executor rewrites the network after its first runs."""
    with opened(path, request_text, **settings) as backend:
        found = []
        for batch in batches:
            for _ in range(3):
                output = backend.infer(batch).arrays[0].copy()
            found.append(output)
        return found


@pytest.mark.parametrize(
    ("request_text", "tf32", "tolerance"),
    [("torchscript:cuda", False, 1e-5), ("torchscript:cuda", True, 2e-3), ("torchscript:cuda:fp16", True, 5e-3)],
)
@pytest.mark.parametrize("archive", ["layers", "demo model"])
def test_the_results_are_the_processors(
    archive: str, request_text: str, tf32: bool, tolerance: float, tmp_path: Path
) -> None:
    """tolerance: as a share of the largest output."""
    if archive == "layers":
        path, side = save(Layers(by_view=False), tmp_path), 32
    else:
        model = load_model("digits")
        path, side = model.artifacts["torchscript"].path, model.input.width
    # Each batch size has the fuser compile kernels of its own.
    batches = [pictures(count, side) for count in ((1, 2, 1, 3) if archive == "layers" else (1, 2))]
    found = outputs_of(path, request_text, batches, tf32=tf32)
    wanted = outputs_of(path, "torchscript:cpu", batches)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(np.abs(other).max()))


def test_half_precision_runs_with_channels_side_by_side() -> None:
    path = load_model("digits").artifacts["torchscript"].path
    with opened(path, "torchscript:cuda:fp16") as backend:
        assert isinstance(backend._module, GpuModule) and backend._module.channels_last
        assert backend.info.notes == ()
    with opened(path, "torchscript:cuda:fp16", freeze=False) as backend:
        assert not isinstance(backend._module, GpuModule)


def test_a_network_that_needs_its_own_layout_has_it_and_a_note_says_so(tmp_path: Path) -> None:
    path = save(Layers(by_view=True), tmp_path)
    with opened(path, "torchscript:cuda:fp16") as backend:
        found = [backend.infer(pictures(count)).arrays[0].copy() for count in (1, 1, 1, 1, 2)]
        assert any("needs its own memory layout" in note for note in backend.info.notes)
    wanted = outputs_of(path, "torchscript:cpu", [pictures(1), pictures(2)])
    np.testing.assert_allclose(found[3], wanted[0], atol=2e-2)
    np.testing.assert_allclose(found[4], wanted[1], atol=2e-2)


@pytest.mark.parametrize("by_view", [True, False])
def test_the_short_way_around_it(by_view: bool, tmp_path: Path) -> None:
    """In CUDA graphs too, whose recording runs into the same."""
    spec = InputSpec(32, 32)
    plan = FramePlan(spec, "detr", False, 0)
    frame = random_frame("bgr8", 64, 48, 3)
    batch, _ = Preprocessor(spec)(decode_frame(frame))
    with opened(save(Layers(by_view=by_view), tmp_path), "torchscript:cuda:fp16") as backend:
        path = backend.frame_path(plan)
        assert not isinstance(path, str) and path is not None
        choice = ClassChoice(Thresholds(), ())
        found = [path.run([frame], choice).found[0] for _ in range(3)]
        plain = backend.infer(batch).arrays[0]
        assert any("needs its own memory layout" in note for note in backend.info.notes) is by_view
    for outputs in found:
        assert isinstance(outputs, tuple)
        np.testing.assert_allclose(np.float32(outputs[0]), plain, atol=2e-3 * float(np.abs(plain).max()))


@pytest.mark.parametrize("request_text", ["torchscript:cuda", "torchscript:cuda:fp16"])
def test_with_the_algorithms_that_cudnn_found_fastest(request_text: str, tmp_path: Path) -> None:
    path = save(Layers(by_view=False), tmp_path)
    (found,) = outputs_of(path, request_text, [pictures(1)], cudnn_benchmark=True)
    (wanted,) = outputs_of(path, "torchscript:cpu", [pictures(1)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-3 * float(np.abs(wanted).max()))
