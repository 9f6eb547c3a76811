"""What the watchdog's own process does, run here against real processes that it watches."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from trt_perception import watchdog_process
from trt_perception.watchdog_process import COUNT, HUNG_SIGNAL, MEMORY_BYTES, TIMEOUT, watch

SLEEPS = "print('ready', flush=True); import time; time.sleep(60)"
DEAF = f"import signal; signal.signal({HUNG_SIGNAL:d}, signal.SIG_IGN); {SLEEPS}"


def memory(count: int, timeout_s: float) -> mmap.mmap:
    shared = mmap.mmap(-1, MEMORY_BYTES)
    COUNT.pack_into(shared, 0, count)
    TIMEOUT.pack_into(shared, COUNT.size, timeout_s)
    return shared


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose end closes the pipe that is the watchdog's standard input; this process stands for its child."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, pass_fds=(writing,))
        os.close(writing)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
        monkeypatch.setattr(os, "getppid", lambda: process.pid)
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()
            process.wait(10.0)
            assert process.stdout is not None
            process.stdout.close()


def test_an_inference_that_hangs_ends_its_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with watched(monkeypatch, SLEEPS) as process:
        watch(process.pid, memory(count=1, timeout_s=0.3))
        assert process.wait(10.0) == -HUNG_SIGNAL
    told = capfd.readouterr().err
    assert told.startswith(
        "[FATAL] [inference watchdog]: an inference has not returned for 0.3 s (inference_timeout_s)"
    )
    assert f"process {process.pid} is ended by SIGALRM, exit code -14, in a shell 142" in told
    assert "is killed" not in told


def test_a_process_that_does_not_end_by_the_signal_is_killed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with watched(monkeypatch, DEAF) as process:
        watch(process.pid, memory(count=3, timeout_s=0.2))
        assert process.wait(10.0) == -signal.SIGKILL
    assert f"process {process.pid} did not end by SIGALRM; it is killed" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("count", "timeout_s"), [(2, 0.2), (1, 0.0), (1, 60.0)], ids=["idle", "no limit", "below the limit"]
)
def test_what_does_not_hang_is_left_alone_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], count: int, timeout_s: float
) -> None:
    with watched(monkeypatch, "print('ready', flush=True); import time; time.sleep(1)") as process:
        watch(process.pid, memory(count, timeout_s))
        assert process.wait(10.0) == 0
    assert capfd.readouterr().err == ""


def test_a_stopped_process_is_not_hung(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with watched(monkeypatch, SLEEPS) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        watching = threading.Thread(target=watch, args=(process.pid, memory(count=1, timeout_s=0.3)))
        watching.start()
        watching.join(1.0)
        assert watching.is_alive() and process.poll() is None
        process.kill()
        watching.join(10.0)
        assert not watching.is_alive()
    assert capfd.readouterr().err == ""


def test_a_process_that_is_no_longer_the_parent_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with watched(monkeypatch, SLEEPS) as process:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        watch(process.pid, memory(count=1, timeout_s=0.2))
        assert process.poll() is None
    assert capfd.readouterr().err == ""
    assert not watchdog_process._is_stopped(process.pid), "it has ended, and is no stopped process"
