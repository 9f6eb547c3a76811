"""Several processes that build one engine at once, a process that dies while it builds, a full and a read-only disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test.commands import ROOT
from test.small_disk import run_on_small_disk
from trt_perception.backends.tensorrt_runtime.manifest import read_manifest

pytest.importorskip("onnx", reason="the onnx package makes the test's models")
from test.unit.engine.onnx_models import conv_model

HANG_S = 60.0


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(conv_model())
    return path


def command(onnx: Path, cache: Path, size: int = 1000, pause_s: float = 0.0) -> list[str]:
    log = onnx.with_name("log")
    arguments = [str(a) for a in (onnx, cache, log, size, pause_s)]
    return [sys.executable, "-m", "test.unit.engine.build_process", *arguments]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begun(onnx: Path) -> int:
    log = onnx.with_name("log")
    return len(log.read_text().splitlines()) if log.is_file() else 0


def wait_for_begin(onnx: Path, count: int) -> None:
    end_s = time.monotonic() + HANG_S
    while begun(onnx) < count:
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_of_several_processes_one_builds_and_the_others_take_its_engine(onnx: Path, tmp_path: Path) -> None:
    processes = [start(command(onnx, tmp_path / "cache", pause_s=1.0)) for _ in range(4)]
    answers = [process.communicate(timeout=HANG_S)[0].split() for process in processes]
    assert sorted(answer[0] for answer in answers) == ["built", "found", "found", "found"]
    (engine,) = {answer[1] for answer in answers}
    assert begun(onnx) == 1
    manifest = read_manifest(Path(engine))
    assert manifest is not None and manifest.problem(Path(engine)) is None
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {Path(engine).name, f"{Path(engine).name}.json"}


def test_a_process_that_is_killed_while_it_builds_holds_nobody_up(onnx: Path, tmp_path: Path) -> None:
    first = start(command(onnx, tmp_path / "cache", pause_s=HANG_S))
    wait_for_begin(onnx, 1)
    second = start(command(onnx, tmp_path / "cache"))
    time.sleep(0.5)
    assert second.poll() is None and begun(onnx) == 1
    first.kill()
    first.communicate(timeout=HANG_S)
    assert second.communicate(timeout=HANG_S)[0].startswith("built")


def test_a_full_disk_is_said_and_leaves_what_was_there(onnx: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    fits, too_large = command(onnx, disk, 20_000), command(onnx, disk, 200_000)
    onnx_2 = tmp_path / "other.onnx"
    onnx_2.write_bytes(conv_model(32))
    too_large[too_large.index(str(onnx))] = str(onnx_2)
    status = ["sh", "-c", f"ls -A {disk}; ! {' '.join(too_large)}; echo status $?; ls -A {disk}"]
    done = run_on_small_disk(disk, 64, fits, status)
    assert "cannot be written (No space left on device); make room there" in done.stderr
    assert "Traceback" not in done.stderr
    before, after = done.stdout.split("\n", 1)[1].split("status 0\n")
    assert before == after and before.count("model-fp16-") == 2


def test_a_read_only_folder_is_said_before_the_work_begins(onnx: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = run_on_small_disk(disk, 64, command(onnx, disk), read_only=True)
    assert done.returncode == 1
    assert "cannot be written (Read-only file system); choose a folder that can be written" in done.stderr
    assert begun(onnx) == 0


def test_an_engine_that_is_there_is_found_on_a_read_only_disk(onnx: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = run_on_small_disk(disk, 64, command(onnx, disk), command(onnx, disk), read_only=True)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["built", "found"]
