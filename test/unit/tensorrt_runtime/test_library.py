from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trt_perception.backends.tensorrt_runtime import library, probe
from trt_perception.backends.tensorrt_runtime.library import load_tensorrt, parse_version
from trt_perception.errors import BackendError, BackendUnavailableError


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which tests put stand-ins for TensorRT's packages; none is installed besides."""
    names = [name for flavour in library.FLAVOURS.values() for name in flavour]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    blocked = {name: None for name in names}
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in blocked:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name={name!r})\n")
    probe.require_runtime_starts.cache_clear()
    return tmp_path


def put(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


RUNTIME = """
class Logger:
    WARNING = 2
    def __init__(self, level): pass
class Runtime:
    def __init__(self, logger): {body}
"""


def test_the_full_library_comes_first(modules: Path) -> None:
    put(modules, "tensorrt", "__version__ = '8.6.0'")
    put(modules, "tensorrt_lean", "__version__ = '8.6.0'")
    trt = load_tensorrt()
    assert (trt.flavour, trt.version, str(trt)) == ("full", (8, 6, 0), "TensorRT 8.6.0")


def test_the_lean_runtime_is_taken_where_it_is_the_only_one(modules: Path) -> None:
    put(modules, "tensorrt_lean_bindings", "__version__ = '8.6.1'")
    assert str(load_tensorrt()) == "TensorRT 8.6.1 lean runtime"


def test_a_flavour_can_be_asked_for(modules: Path) -> None:
    put(modules, "tensorrt", "__version__ = '8.6.0'")
    with pytest.raises(BackendUnavailableError, match="no module tensorrt_dispatch"):
        load_tensorrt("dispatch")
    with pytest.raises(BackendError, match="expected auto, full, lean, dispatch"):
        load_tensorrt("small")


def test_nothing_installed_names_the_command(modules: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="pip install tensorrt"):
        load_tensorrt()


def test_a_missing_library_is_explained(modules: Path) -> None:
    put(modules, "tensorrt", "raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    with pytest.raises(BackendUnavailableError, match="LD_LIBRARY_PATH"):
        load_tensorrt("full")


def test_a_runtime_that_crashes_is_found_out_in_a_child_process(modules: Path) -> None:
    crash = "print('[TRT] [E] CUDA initialization failure with error: 35', flush=True); os.kill(os.getpid(), 11)"
    put(modules, "tensorrt", "import os\n__version__ = '11.4.0.106'" + RUNTIME.format(body=crash))
    with pytest.raises(BackendUnavailableError, match=r"crashed \(signal 11\).*driver is older"):
        load_tensorrt()


def test_an_error_that_is_only_printed_counts(modules: Path) -> None:
    put(modules, "tensorrt", "__version__ = '10.3.0'" + RUNTIME.format(body="print('[TRT] [E] no driver')"))
    with pytest.raises(BackendUnavailableError, match="no driver"):
        load_tensorrt()


def test_a_runtime_that_starts_is_used(modules: Path) -> None:
    put(modules, "tensorrt", "__version__ = '11.4.0.106'" + RUNTIME.format(body="pass"))
    assert load_tensorrt().version == (11, 4, 0, 106)


def test_a_child_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    probe.require_runtime_starts.cache_clear()
    with pytest.raises(BackendUnavailableError, match="took longer"):
        probe.require_runtime_starts("hanging")


@pytest.mark.parametrize(
    ("text", "version"), [("8.6.0", (8, 6, 0)), ("10.13.3.9.post1", (10, 13, 3, 9)), ("8.6", (8, 6))]
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_no_version_is_refused() -> None:
    with pytest.raises(BackendError, match="expected numbers"):
        parse_version("unknown")
