"""TorchScript's network as it is rewritten for a GPU, against the one that was exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import torchscript_backend
from trt_perception.backends.torchscript_backend import TorchScriptBackend
from trt_perception.models import load_model
from trt_perception.types import AnyArray

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
if not torch.cuda.is_available():
    pytest.skip("this torch finds no GPU", allow_module_level=True)
nn: Any = torch.nn

PRECISIONS = pytest.mark.parametrize("request_text", ["torchscript:cuda", "torchscript:cuda:fp16"])


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
def opened(path: Path, request_text: str) -> Iterator[TorchScriptBackend]:
    with TorchScriptBackend(BackendRequest.parse(request_text), path) as backend:
        yield backend


def pictures(count: int, side: int = 32) -> AnyArray:
    return np.random.default_rng(count).random((count, 3, side, side), np.float32)


def first_outputs(path: Path, request_text: str, batches: list[AnyArray]) -> list[AnyArray]:
    """Each batch several times: torch's executor rewrites the network after its first runs."""
    with opened(path, request_text) as backend:
        found = []
        for batch in batches:
            for _ in range(4):
                output = backend.infer(batch).arrays[0].copy()
            found.append(output)
        return found


@PRECISIONS
@pytest.mark.parametrize("archive", ["layers", "demo model"])
def test_the_results_stay(archive: str, request_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.backends.cudnn.allow_tf32 = False
    if archive == "layers":
        path, side = save(Layers(by_view=False), tmp_path), 32
    else:
        model = load_model("digits")
        path, side = model.artifacts["torchscript"].path, model.input.width
    batches = [pictures(count, side) for count in (1, 2, 1, 3, 4)]
    suited = first_outputs(path, request_text, batches)
    monkeypatch.setattr(torchscript_backend, "suit_gpu", lambda torch, module, **_: False)
    exported = first_outputs(path, request_text, batches)
    half = request_text.endswith("fp16")
    for one, other in zip(suited, exported, strict=True):
        assert one.shape == other.shape
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one, other, atol=(2e-2 if half else 1e-4) * scale)


@PRECISIONS
def test_a_network_that_needs_its_own_layout_has_it_and_a_note_says_so(request_text: str, tmp_path: Path) -> None:
    path = save(Layers(by_view=True), tmp_path)
    reference = save_reference(tmp_path)
    with opened(path, request_text) as backend:
        found = [backend.infer(pictures(count)).arrays[0].copy() for count in (1, 1, 1, 1, 2)]
        noted = any("keeps its own memory layout" in note for note in backend.info.notes)
    assert noted is request_text.endswith("fp16")
    expected = first_outputs(reference, request_text, [pictures(1), pictures(2)])
    np.testing.assert_allclose(found[3], expected[0], atol=2e-2)
    np.testing.assert_allclose(found[4], expected[1], atol=2e-2)


def save_reference(folder: Path) -> Path:
    other = folder / "reference"
    other.mkdir()
    return save(Layers(by_view=False), other)


def test_what_fails_in_any_layout_says_nothing_against_this_one(tmp_path: Path) -> None:
    """As two pictures do in a network that was exported for one."""
    with opened(save(Layers(by_view=False), tmp_path), "torchscript:cuda:fp16") as backend:
        backend.infer(pictures(1))
        with torch.inference_mode(), pytest.raises(RuntimeError):
            backend._outputs(torch.zeros((1, 5, 32, 32), device="cuda", dtype=torch.float16))
        assert backend._suited and backend.info.notes == ()
        backend.infer(pictures(2))
