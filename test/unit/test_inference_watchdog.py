"""The watchdog process against processes that hang, are stopped, are idle, or end by themselves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from trt_perception.inference_watchdog import EXIT_CODE_HUNG

LIMIT_S = 0.6
# Runs the body between began() and ended(), then is idle for longer than the limit and ends.
CODE = """
import ctypes, sys, time
from trt_perception.inference_watchdog import InferenceWatchdog
watchdog = InferenceWatchdog({limit})
watchdog.ended()  # one that began before the watchdog did
watchdog.began()
print("began", flush=True)
{body}
watchdog.ended()
time.sleep({idle})
watchdog.close()
watchdog.close()
"""


def started(body: str, limit_s: float = LIMIT_S) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CODE.format(limit=limit_s, body=body, idle=2 * LIMIT_S)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    return process


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"], ids=["without the interpreter lock", "with it"])
def test_what_hangs_is_ended_and_told_where(library: str) -> None:
    _, errors = (process := started(f"ctypes.{library}(None).sleep(60)")).communicate(timeout=30)
    assert process.returncode == EXIT_CODE_HUNG == -signal.SIGALRM
    assert f"an inference has not returned for {LIMIT_S:g} s (inference_timeout_s)" in errors
    assert 'File "<string>", line 8' in errors


@pytest.mark.parametrize(
    ("body", "limit_s"),
    [
        ("time.sleep(0.1)", LIMIT_S),
        ("for _ in range(20): time.sleep(0.1); watchdog.ended(); watchdog.began()", LIMIT_S),
        ("time.sleep(1.5)", 0.0),
        ("watchdog.timeout_s = 10.0; time.sleep(1.5); assert watchdog.timeout_s == 10.0", LIMIT_S),
    ],
    ids=["short", "many", "no limit", "a limit that is raised"],
)
def test_what_does_not_hang_goes_on(body: str, limit_s: float) -> None:
    _, errors = (process := started(body, limit_s)).communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_a_process_that_was_stopped_is_not_hung() -> None:
    process = started("time.sleep(0.3)")
    process.send_signal(signal.SIGSTOP)
    time.sleep(3 * LIMIT_S)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_the_watchdog_ends_with_a_process_that_is_killed() -> None:
    process = started("print(watchdog._process.pid, flush=True); time.sleep(60)", 0.0)
    assert process.stdout is not None
    watching = int(process.stdout.readline())
    process.kill()
    # Its standard error is this pipe too, which ends when both have.
    _, errors = process.communicate(timeout=30)
    assert errors == ""
    assert watching > 0
