"""Detecting opens no socket and leaves the home folder alone, whatever the libraries would like to report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test.commands import ROOT
from trt_perception.resources import share_directory

PICTURE = share_directory() / "trt_perception" / "data" / "heldout_photo_coffee.jpg"
DETECT = ["-m", "trt_perception.cli.main", "detect", str(PICTURE), "--backend"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        [*DETECT, "onnxruntime:cpu"],
        [*DETECT, "torchscript:cpu"],
        ["-m", "trt_perception.doctor.run_look", "trt_perception.doctor.probes.onnxruntime", "CPUExecutionProvider"],
    ],
    ids=["onnxruntime", "torchscript", "doctor"],
)
def test_no_socket_is_opened_and_nothing_is_kept(tmp_path: Path, arguments: list[str]) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    answer = [str(tmp_path / "facts.json")] if "trt_perception.doctor.run_look" in arguments else []
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=socket,execve", sys.executable]
    done = subprocess.run(
        [*command, *arguments, *answer],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if "PTRACE" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    calls = trace.read_text()
    assert "execve(" in calls
    assert re.findall(r"socket\(AF_INET6?,.*", calls) == []
    assert list(home.rglob("*")) == []
