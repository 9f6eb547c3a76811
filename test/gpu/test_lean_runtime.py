"""A version-compatible engine in a lean runtime, in a process of its own: two TensorRT versions do not mix in one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from test.gpu.conftest import TACTICS
from test.gpu.networks import SIDE, reference, relative_error
from trt_perception.backends.tensorrt_runtime.library import TensorRt
from trt_perception.engine.build import build_engine
from trt_perception.engine.options import BuildOptions

LEAN = "tensorrt_lean_bindings"
LEAN_FOLDERS = "TRT_PERCEPTION_TEST_LEAN"

_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from trt_perception.backend_request import BackendRequest
from trt_perception.backends.tensorrt_backend import TensorRtBackend
engine, batch, output = map(Path, sys.argv[1:])
backend = TensorRtBackend(BackendRequest.parse("tensorrt"), engine, settings={"runtime": "lean"})
with backend:
    np.save(output, backend.infer(np.load(batch)).arrays[0])
    print(backend.info.provider)
"""


@pytest.fixture(scope="module")
def compatible(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory, trt: TensorRt) -> Path:
    if trt.dialect.version_compatible is None:
        pytest.skip(f"{trt} builds no version-compatible engines")
    target = tmp_path_factory.mktemp("lean") / "compatible.engine"
    options = BuildOptions(
        onnx=small_onnx,
        save_engine=target,
        fp16=True,
        version_compatible=True,
        exclude_lean_runtime=True,
        tactic_sources=TACTICS,
    )
    return build_engine(options).engine


def test_it_carries_its_portability_in_the_manifest(compatible: Path) -> None:
    options = json.loads(compatible.with_name(compatible.name + ".json").read_text())["key"]["options"]
    assert (options["versionCompatible"], options["excludeLeanRuntime"]) == ("true", "true")


def lean_runtimes() -> list[str]:
    """Folders with a lean runtime each, besides the one that may be installed (empty)."""
    folders = [folder for folder in os.environ.get(LEAN_FOLDERS, "").split(os.pathsep) if folder]
    return [*folders, ""] if importlib.util.find_spec(LEAN) is not None else folders


@pytest.mark.skipif(not lean_runtimes(), reason=f"{LEAN} is not installed and {LEAN_FOLDERS} names no folder with it")
@pytest.mark.parametrize("folder", lean_runtimes(), ids=lambda folder: Path(folder).name or "installed")
def test_a_lean_runtime_runs_it_or_says_that_it_is_too_old(
    compatible: Path, small_onnx: Path, tmp_path: Path, folder: str
) -> None:
    batch = np.random.default_rng(2).random((1, 3, SIDE, SIDE), np.float32)
    np.save(tmp_path / "batch.npy", batch)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))}
    words = [str(compatible), str(tmp_path / "batch.npy"), str(tmp_path / "output.npy")]
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    print(f"\n{ended.stdout}{ended.stderr.splitlines()[-1:]}")
    if ended.returncode == 0:
        assert "lean runtime" in ended.stdout
        assert relative_error(np.load(tmp_path / "output.npy"), reference(small_onnx, batch)) < 5e-3
    else:
        # NVIDIA does not carry compatibility over every major version; the refusal has to say so.
        assert ended.returncode == 1
        assert "was built by another TensorRT version" in ended.stderr
