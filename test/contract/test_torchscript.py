"""What only TorchScript has: archives that are none, and settings that torch keeps."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from test.contract.small_network import SIDE_PX, batch_of, write_torchscript
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.torchscript_backend import TorchScriptBackend
from trt_perception.errors import BackendError

torch: Any = pytest.importorskip("torch", reason="torch is not installed")


def make(path: Path, request: str = "torchscript:cpu", **settings: Any) -> TorchScriptBackend:
    return TorchScriptBackend(BackendRequest.parse(request), path, settings=settings)


def save(module: Any, path: Path) -> Path:
    torch.jit.save(torch.jit.script(module), str(path))
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchscript") / "net.torchscript"
    write_torchscript(path)
    return path


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.victim,)


def traps(victim: Path, good: Path) -> dict[str, bytes]:
    plain = pickle.dumps(Trap(victim))
    checkpoint, legacy = io.BytesIO(), io.BytesIO()
    torch.save(Trap(victim), checkpoint)
    torch.save(Trap(victim), legacy, _use_new_zipfile_serialization=False)
    return {
        "a pickle": plain,
        "a checkpoint of torch.save": checkpoint.getvalue(),
        "an old checkpoint of torch.save": legacy.getvalue(),
        "a pickle in front of an archive": plain + good.read_bytes(),
        "a pickle in place of an archive's weights": with_entry(good, "data.pkl", plain),
        "a pickle in place of an archive's constants": with_entry(good, "constants.pkl", plain),
        "a pickle as an archive's metadata": with_entry(good, "config.txt", plain),
    }


def with_entry(good: Path, name: str, content: bytes) -> bytes:
    """The archive with the content of one of its files replaced."""
    changed = io.BytesIO()
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(changed, "w") as target:
        replaced = 0
        for entry in source.infolist():
            own = entry.filename.rpartition("/")[2] == name
            replaced += own
            target.writestr(entry.filename, content if own else source.read(entry))
    assert replaced == 1
    return changed.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        "a pickle",
        "a checkpoint of torch.save",
        "an old checkpoint of torch.save",
        "a pickle in front of an archive",
        "a pickle in place of an archive's weights",
        "a pickle in place of an archive's constants",
        "a pickle as an archive's metadata",
    ],
)
def test_nothing_is_ever_unpickled(tmp_path: Path, good: Path, kind: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "net.torchscript"
    path.write_bytes(traps(victim, good)[kind])
    backend = make(path)
    try:
        backend.open()
    except BackendError as error:
        assert str(path) in str(error)
    finally:
        backend.close()
    assert not victim.exists()


def test_what_is_no_archive_does_not_reach_torch(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "net.torchscript"
    path.write_bytes(traps(tmp_path / "victim", good)["a pickle"])
    with pytest.raises(BackendError, match="is not a TorchScript archive; save it with"):
        make(path).open()


def test_the_trap_itself_works(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    pickle.loads(pickle.dumps(Trap(victim)))
    assert victim.exists()


def test_a_frozen_archive_opens(tmp_path: Path) -> None:
    path = tmp_path / "frozen.torchscript"
    torch.jit.save(torch.jit.freeze(torch.jit.script(torch.nn.Conv2d(3, 1, 1).eval())), str(path))
    with make(path) as backend:
        assert backend.infer(batch_of(2)).arrays[0].shape == (2, 1, SIDE_PX, SIDE_PX)


def test_freezing_is_done_when_asked_for(good: Path) -> None:
    for freeze in (True, False):
        with make(good, freeze=freeze) as backend:
            module: Any = backend._module
            assert (len(list(module.parameters())) == 0) is freeze


def test_threads_and_cudnn_are_set(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    try:
        with make(good, intra_op_threads=before + 1, cudnn_benchmark=True):
            assert torch.get_num_threads() == before + 1
            assert torch.backends.cudnn.benchmark is True
        with make(good, cudnn_benchmark=False):
            assert torch.get_num_threads() == before + 1  # 0 leaves it as it is
            assert torch.backends.cudnn.benchmark is False
    finally:
        torch.set_num_threads(before)


def test_half_precision_on_the_cpu_is_refused(good: Path) -> None:
    backend = make(good, "torchscript:cpu:fp16")
    with pytest.raises(BackendError, match="fp16 needs a GPU here; ask for torchscript:cpu or :cuda:fp16"):
        backend.open()


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        return {"a": x + 1, "b": x + 2}, [x + 3, x + 4]


class Brain(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16) * 2


class Number(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> int:
        return 3


class Two(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def test_nested_outputs_come_flat_and_in_order(tmp_path: Path) -> None:
    with make(save(Nested(), tmp_path / "nested.torchscript")) as backend:
        arrays = backend.infer(batch_of(1)).arrays
    for added, array in enumerate(arrays, start=1):
        np.testing.assert_allclose(array, batch_of(1) + added, rtol=1e-6)
    assert len(arrays) == 4


def test_half_outputs_come_as_single(tmp_path: Path) -> None:
    with make(save(Brain(), tmp_path / "brain.torchscript")) as backend:
        (array,) = backend.infer(batch_of(1)).arrays
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, batch_of(1) * 2, rtol=0.01)


@pytest.mark.parametrize(
    ("module", "words"), [(Number, "returned a int; expected tensors"), (Two, "failed while running")]
)
def test_a_module_that_is_no_network_of_one_image(tmp_path: Path, module: Any, words: str) -> None:
    with make(save(module(), tmp_path / "odd.torchscript")) as backend, pytest.raises(BackendError, match=words):
        backend.infer(batch_of(1))


def test_damaged_metadata_is_an_error_of_the_backend(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript"
    torch.jit.save(torch.jit.script(torch.nn.Identity()), str(path), _extra_files={"config.txt": "{broken"})
    backend = make(path)
    with pytest.raises(BackendError, match=r"torchscript:cpu: .*cannot be read as a \.torchscript file"):
        backend.open()
    assert not backend.is_open


def in_another_thread(what: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as other:
        return other.submit(what).result()


def test_a_profile_holds_the_runs_of_every_thread(good: Path, tmp_path: Path) -> None:
    # A node opens, runs and closes a backend on different threads.
    trace = tmp_path / "trace.json"
    backend = make(good, profile_to=str(trace))
    backend.open()
    assert backend.info.notes == ()
    for _ in range(3):
        in_another_thread(lambda: backend.infer(batch_of(1)))
    in_another_thread(backend.close)
    assert sum(event["name"] == "model_run" for event in json.loads(trace.read_text())["traceEvents"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_a_torch_that_profiles_one_thread_says_so_and_is_not_stopped_by_another(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiler = SimpleNamespace(start=lambda: None, stop=pytest.fail, experimental_config=None)
    monkeypatch.setattr(torch._C._profiler, "_ExperimentalConfig", lambda: None)
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: profiler)
    backend = make(good, profile_to=str(tmp_path / "trace.json"))
    backend.open()
    assert "profiles the thread alone that opened the backend" in backend.info.notes[0]
    with pytest.raises(BackendError, match="no profile: another thread began it"):
        in_another_thread(backend.close)
    assert not backend.is_open and backend._module is None


def test_a_profile_that_cannot_be_written_is_an_error_and_everything_is_closed(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    backend = make(good, profile_to=str(folder / "trace.json"))
    backend.open()
    backend.infer(batch_of(1))
    folder.rmdir()
    with pytest.raises(BackendError, match=r"the profile cannot be written to .*trace\.json \(No such file"):
        backend.close()
    assert not backend.is_open and backend._module is None


def test_a_gpu_that_failed_is_closed_without_a_word(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    backend = make(good)
    backend.open()
    monkeypatch.setattr(backend, "_device", torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "empty_cache", refuse)
    backend.close()
    assert not backend.is_open and backend._module is None
