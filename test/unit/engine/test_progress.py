from __future__ import annotations

import io

import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.engine.progress import LogProgress, ProgressBar, make_monitor


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def update(self, phase: str, done: int, total: int) -> None:
        self.seen.append((phase, done, total))

    def finish(self) -> None:
        self.seen.append(("finished", 0, 0))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_phase_is_one_line_in_a_file() -> None:
    out = io.StringIO()
    bar = ProgressBar(out)
    for done in range(3):
        bar.update("timing kernels", done, 3)
    bar.update("engine complete", 0, 0)
    bar.finish()
    lines = out.getvalue().splitlines()
    assert [line.split("] ")[1] for line in lines] == ["timing kernels", "engine complete"]


def test_a_terminal_gets_a_bar_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr("time.monotonic_ns", lambda: next(now))
    out = Terminal()
    bar = ProgressBar(out)
    bar.update("timing kernels", 6, 12)
    bar.update("timing kernels", 12, 12)
    bar.finish()
    assert "[############............]" in out.getvalue() and "6/12" in out.getvalue()
    assert "[########################]" in out.getvalue()
    assert out.getvalue().count("\r") == 2 and out.getvalue().endswith("\n")


def test_the_log_of_tensorrt_8_is_read() -> None:
    recorder = Recorder()
    listen = LogProgress(recorder, total_layers=2)
    for message in (
        "[MemUsageChange] Init CUDA",
        "Original: 12 layers",
        "=============== Computing costs for ",
        "=============== Computing costs for ",
        "=============== Computing costs for ",
        "Formats and tactics selection completed in 2.1 seconds.",
        "Engine generation completed in 2.9 seconds.",
    ):
        listen(message)
    assert recorder.seen == [
        ("optimising the graph", 0, 0),
        ("timing kernels", 1, 2),
        ("timing kernels", 2, 2),
        ("timing kernels", 2, 2),
        ("putting the engine together", 0, 0),
        ("engine complete", 0, 0),
    ]


def test_the_monitor_of_tensorrt_10_is_passed_on() -> None:
    class IProgressMonitor:
        def __init__(self) -> None:
            self.constructed = True

    recorder = Recorder()
    monitor = make_monitor(fake_tensorrt((10, 3), IProgressMonitor=IProgressMonitor), recorder)
    monitor.phase_start("Tactic Selection", None, 10)
    assert monitor.step_complete("Tactic Selection", 4) is True
    monitor.phase_finish("Tactic Selection")
    assert monitor.constructed
    assert recorder.seen == [("Tactic Selection", 0, 10), ("Tactic Selection", 5, 10)]
