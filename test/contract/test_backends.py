"""What every backend promises, run over each that is installed here. A new backend joins with a line in CASES."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.contract.small_engine import lacks_gpu, write_engine
from test.contract.small_network import METADATA, SIDE_PX, batch_of, expected, write_onnx, write_torchscript
from trt_perception.backend_request import BackendRequest
from trt_perception.backends import BACKENDS, backend_class
from trt_perception.backends.base import Backend, RawOutputs
from trt_perception.errors import BackendError, BackendUnavailableError, DeviceMismatchError

HEAVY = ("torch", "onnxruntime", "tensorrt", "pycuda")


def lacks(*packages: str) -> Callable[[], str | None]:
    """Why a case cannot run here: the first of the packages that is not installed."""

    def reason() -> str | None:
        absent = [name for name in packages if importlib.util.find_spec(name) is None]
        return f"{absent[0]} is not installed" if absent else None

    return reason


@dataclass(frozen=True)
class Case:
    """One backend on one device.

    request: what is asked for. artifact: the file's name, which write makes. unavailable: why it cannot run here, or
    None. device: what BackendInfo says. settings: each is tried. bad_settings: each is refused. tolerance: of its
    results, absolute. fallback: a request for a device that this machine lacks while the CPU could run instead.
    """

    request: str
    artifact: str
    write: Callable[[Path], None]
    unavailable: Callable[[], str | None]
    device: str
    settings: tuple[dict[str, Any], ...] = ()
    bad_settings: tuple[dict[str, Any], ...] = ()
    tolerance: float = 1e-5
    fallback: str | None = None


CASES = (
    Case(
        "onnxruntime:cpu",
        "net.onnx",
        write_onnx,
        lacks("onnxruntime", "torch", "onnx"),
        device="cpu",
        settings=(
            *({"graph_optimization": level} for level in ("disable", "basic", "extended", "all")),
            {"execution": "parallel", "inter_op_threads": 2},
            {"intra_op_threads": 1, "allow_spinning": False},
        ),
        bad_settings=({"graph_optimization": "most"}, {"execution": "random"}, {"inter_op_threads": -1}),
        fallback="onnxruntime:cuda",
    ),
    Case(
        "torchscript:cpu",
        "net.torchscript",
        write_torchscript,
        lacks("torch"),
        device="cpu",
        settings=({"freeze": False}, {"freeze": True}, {"cudnn_benchmark": True}, {"tf32": False}),
        bad_settings=({"freeze": "no"}, {"intra_op_threads": -1}),
        fallback="torchscript:cuda:fp16",
    ),
    Case(
        "tensorrt:fp32",
        "net.engine",
        write_engine,
        lacks_gpu,
        device="cuda:0",
        settings=({"cuda_graph": False}, {"runtime": "full"}),
        bad_settings=({"runtime": "tiny"},),
        tolerance=1e-4,
    ),
)


@dataclass
class Subject:
    """A case with its artifact, and a way to make the backend."""

    case: Case
    path: Path
    made: list[Backend] = field(default_factory=list)

    def make(self, request: str | None = None, path: Path | None = None, **options: Any) -> Backend:
        parsed = BackendRequest.parse(request or self.case.request)
        backend = backend_class(parsed.name)(parsed, path or self.path, **options)
        self.made.append(backend)
        return backend


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {case.request: tmp_path_factory.mktemp("artifact") / case.artifact for case in CASES}


@pytest.fixture(params=CASES, ids=lambda case: case.request)
def subject(request: pytest.FixtureRequest, artifacts: dict[str, Path]) -> Any:
    case: Case = request.param
    reason = case.unavailable()
    if reason is not None:
        pytest.skip(f"{case.request}: {reason}")
    path = artifacts[case.request]
    if not path.is_file():
        case.write(path)
    subject = Subject(case, path)
    yield subject
    for backend in subject.made:
        backend.close()


def assert_right(subject: Subject, raw: RawOutputs, batch: Any) -> None:
    reference = expected(batch)
    assert len(raw.arrays) == len(reference)
    for array, right in zip(raw.arrays, reference, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, right, atol=subject.case.tolerance)


def test_every_backend_of_the_table_has_a_case() -> None:
    assert {BackendRequest.parse(case.request).name for case in CASES} >= set(BACKENDS)


# --- lifecycle ------------------------------------------------------------------------------------------------


def test_constructing_loads_nothing(subject: Subject) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from trt_perception.backend_request import BackendRequest\n"
        "from trt_perception.backends import backend_class\n"
        f"request = BackendRequest.parse({subject.case.request!r})\n"
        f"backend = backend_class(request.name)(request, Path('/nowhere/{subject.case.artifact}'))\n"
        f"assert not backend.is_open; print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_open_and_close_may_each_be_called_twice_and_again(subject: Subject) -> None:
    backend = subject.make()
    backend.close()
    for _ in range(2):
        backend.open()
        info = backend.info
        backend.open()
        assert backend.info is info
        assert backend.is_open
        assert_right(subject, backend.infer(batch_of(1)), batch_of(1))
        backend.close()
        backend.close()
        assert not backend.is_open


def test_a_with_statement_opens_and_closes(subject: Subject) -> None:
    with pytest.raises(ZeroDivisionError), subject.make() as backend:
        assert backend.is_open
        raise ZeroDivisionError
    assert not backend.is_open


def test_before_open_and_after_close_the_error_says_so(subject: Subject) -> None:
    backend = subject.make()
    for _ in range(2):
        with pytest.raises(BackendError, match=f"{subject.case.request} is not open; call open"):
            backend.infer(batch_of(1))
        with pytest.raises(BackendError, match="is not open"):
            _ = backend.info
        backend.open()
        backend.close()


def test_a_missing_artifact_leaves_it_closed_and_it_opens_once_the_file_is_there(
    subject: Subject, tmp_path: Path
) -> None:
    path = tmp_path / subject.case.artifact
    backend = subject.make(path=path)
    with pytest.raises(BackendUnavailableError, match=f"the file {path} does not exist"):
        backend.open()
    assert not backend.is_open
    path.write_bytes(b"not a model")
    with pytest.raises(BackendError):
        backend.open()
    assert not backend.is_open
    path.write_bytes(subject.path.read_bytes())
    backend.open()
    assert_right(subject, backend.infer(batch_of(1)), batch_of(1))


def test_two_at_once_do_not_know_of_each_other(subject: Subject) -> None:
    first, second = subject.make(), subject.make()
    first.open()
    second.open()
    first.close()
    assert_right(subject, second.infer(batch_of(1)), batch_of(1))


# --- inference ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
def test_results_are_those_of_the_network(subject: Subject, count: int) -> None:
    with subject.make() as backend:
        raw = backend.infer(batch_of(count))
    assert_right(subject, raw, batch_of(count))
    assert raw.inference_ns > 0
    assert raw.start_ns > 0


def test_batches_may_change_from_one_to_the_next(subject: Subject) -> None:
    with subject.make() as backend:
        for count in (1, 4, 1, 2):
            assert_right(subject, backend.infer(batch_of(count, seed=count)), batch_of(count, seed=count))


def test_results_stay_until_the_next_inference(subject: Subject) -> None:
    with subject.make() as backend:
        batch = batch_of(1)
        raw = backend.infer(batch)
        batch[...] = 7  # the caller's buffer is used again for the next picture
        others = [np.random.default_rng(i).random((64, 64)) for i in range(50)]
        assert len(others) == 50
        assert_right(subject, raw, batch_of(1))


def test_a_tensor_need_not_be_contiguous_and_is_left_as_it_was(subject: Subject) -> None:
    whole = batch_of(4)
    whole.flags.writeable = False
    with subject.make() as backend:
        for view in (whole[::2], whole[:, ::-1], whole[:, :, :, ::-1], whole.transpose(0, 1, 3, 2)):
            assert_right(subject, backend.infer(view), view)
    np.testing.assert_array_equal(whole, batch_of(4))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (
            batch_of(1).astype(np.float64),
            "got a float64 tensor of shape (1, 3, 8, 8); the network takes images: float32",
        ),
        (batch_of(1).astype(np.uint8), "got a uint8 tensor"),
        (batch_of(1)[0], "of shape (3, 8, 8); the network takes images: float32 (?, "),
        (batch_of(1)[None], "of shape (1, 1, 3, 8, 8)"),
    ],
)
def test_a_wrong_tensor_is_refused_with_what_came_and_what_was_expected(
    subject: Subject, tensor: Any, words: str
) -> None:
    with subject.make() as backend:
        assert_right(subject, backend.infer(batch_of(1)), batch_of(1))
        with pytest.raises(BackendError) as caught:
            backend.infer(tensor)
        assert words in str(caught.value)
        assert_right(subject, backend.infer(batch_of(1)), batch_of(1))


def test_a_wrong_number_of_channels_is_refused_and_it_stays_open(subject: Subject) -> None:
    with subject.make() as backend:
        with pytest.raises(BackendError) as caught:
            backend.infer(np.zeros((1, 5, SIDE_PX, SIDE_PX), np.float32))
        message = str(caught.value)
        assert subject.case.request in message
        assert "5" in message
        assert "3" in message
        assert_right(subject, backend.infer(batch_of(1)), batch_of(1))


def test_any_thread_may_call_one_after_the_other(subject: Subject) -> None:
    backend = subject.make()
    turn = threading.Lock()

    def work(seed: int) -> None:
        with turn:
            assert_right(subject, backend.infer(batch_of(1, seed)), batch_of(1, seed))

    with ThreadPoolExecutor(1) as opener:
        opener.submit(backend.open).result()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(40)]:
            done.result()
    with ThreadPoolExecutor(1) as closer:
        closer.submit(backend.close).result()
    assert not backend.is_open


# --- what it says of itself -----------------------------------------------------------------------------------


def test_it_says_what_really_runs(subject: Subject) -> None:
    with subject.make() as backend:
        info = backend.info
    name = BackendRequest.parse(subject.case.request).name
    assert (info.backend, info.requested, info.device) == (name, subject.case.request, subject.case.device)
    assert info.fallback_reason is None
    assert info.device_name
    assert info.provider
    assert any(digit.isdigit() for digit in info.library)
    assert len(info.inputs) == 1
    assert (info.inputs[0].dtype, len(info.inputs[0].shape)) == ("float32", 4)


def test_it_says_what_the_artifact_says_of_itself(subject: Subject) -> None:
    with subject.make() as backend:
        assert METADATA.items() <= dict(backend.info.metadata).items()


def test_the_artifact_may_bear_any_name(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "network.v2"
    path.write_bytes(subject.path.read_bytes())
    with subject.make(path=path) as backend:
        assert_right(subject, backend.infer(batch_of(1)), batch_of(1))


def has_gpu() -> bool:
    from trt_perception.backends.nvidia_smi import gpu_name

    return gpu_name(0) != "NVIDIA GPU 0"


def fallback_of(subject: Subject) -> str:
    if subject.case.fallback is None:
        pytest.skip(f"{subject.case.request} has no other device to fall back to")
    if has_gpu():
        pytest.skip("this machine has a GPU, so nothing falls back")
    return subject.case.fallback


def test_another_device_than_asked_for_is_refused(subject: Subject) -> None:
    request = fallback_of(subject)
    backend = subject.make(request)
    with pytest.raises(DeviceMismatchError) as caught:
        backend.open()
    message = str(caught.value)
    for words in (request, "runs on cpu instead of cuda", "install", "allow_fallback"):
        assert words in message
    assert not backend.is_open


def test_another_device_is_reported_when_it_is_allowed(subject: Subject) -> None:
    request = fallback_of(subject)
    with subject.make(request, allow_fallback=True) as backend:
        info = backend.info
        assert (info.device, info.requested, info.precision) == ("cpu", request, "fp32")
        assert info.fallback_reason is not None
        assert "runs on cpu instead of cuda" in info.fallback_reason
        assert_right(subject, backend.infer(batch_of(1)), batch_of(1))


def test_the_reason_of_an_earlier_failure_is_kept(subject: Subject) -> None:
    backend = subject.make()
    backend.explain_fallback("the other one is broken")
    backend.open()
    assert backend.info.fallback_reason == "the other one is broken"
    before = backend.info.notes
    backend._add_notes("noted when the first frame came")
    assert backend.info.notes == (*before, "noted when the first frame came")
    backend.explain_fallback(None)
    assert backend.info.fallback_reason is None
    assert backend.info.notes == (*before, "noted when the first frame came")


def test_a_device_that_it_does_not_have(subject: Subject) -> None:
    name = BackendRequest.parse(subject.case.request).name
    foreign = [device for device in ("cpu", "cuda", "tensorrt") if device not in backend_class(name).devices]
    for device in foreign:
        with pytest.raises(BackendError, match=f"has no device '{device}'"):
            subject.make(str(BackendRequest(name, device)))


def test_a_precision_that_it_does_not_have(subject: Subject) -> None:
    name = BackendRequest.parse(subject.case.request).name
    with pytest.raises(BackendError, match="'fp8'; use"):
        subject.make(str(BackendRequest(name, None, "fp8")))


# --- settings -------------------------------------------------------------------------------------------------


def test_every_setting_gives_the_same_results(subject: Subject) -> None:
    for settings in subject.case.settings:
        with subject.make(settings=settings) as backend:
            assert vars(backend.settings).items() >= settings.items()
            assert_right(subject, backend.infer(batch_of(4)), batch_of(4))


def test_an_unknown_setting_names_those_that_exist(subject: Subject) -> None:
    known = ", ".join(vars(subject.make().settings))
    with pytest.raises(BackendError, match=f"has no setting 'turbo'; it has: {known}"):
        subject.make(settings={"turbo": True})


def test_a_wrong_setting_is_refused_with_its_name(subject: Subject) -> None:
    for settings in subject.case.bad_settings:
        (name,) = settings
        with pytest.raises(BackendError, match=f"setting '{name}' of"):
            subject.make(settings=settings).open()
    for name, default in vars(subject.make().settings).items():
        with pytest.raises(BackendError, match=f"setting '{name}' of .* is None; expected .*, like {default!r}"):
            subject.make(settings={name: None})


# --- damaged and foreign artifacts ----------------------------------------------------------------------------


def test_a_damaged_artifact_is_an_error_and_never_a_crash(subject: Subject, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "test.contract.damage", subject.case.request, str(subject.path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["refused"] >= 10


def test_the_artifact_of_another_backend_is_refused(
    subject: Subject, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    for other in artifacts.values():
        if other.name != subject.path.name and other.is_file():
            path = tmp_path / subject.case.artifact
            path.write_bytes(other.read_bytes())
            with pytest.raises(BackendError, match=str(path)):
                subject.make(path=path).open()
