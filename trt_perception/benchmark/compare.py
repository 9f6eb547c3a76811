"""Runs a comparison: a process a backend, and blocks of frames handed out in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from trt_perception.backends.nvml import GpuMemory
from trt_perception.benchmark.accuracy import Results, agreement, precision, read_results
from trt_perception.benchmark.pictures import Pictures
from trt_perception.benchmark.plan import BenchPlan
from trt_perception.benchmark.row import Batch, CannotRun, Row
from trt_perception.benchmark.worker_process import WorkerError, WorkerProcess
from trt_perception.doctor.child import run_probe
from trt_perception.doctor.known_failures import recognise
from trt_perception.statistics import summarize

Progress = Callable[[str], None]
_BATCH_WARM_UP = 3
_BATCH_ITERATIONS = 20


class _Runner:
    """One backend: its process and its row, which becomes a row without figures when something fails."""

    def __init__(self, row: Row, place: int) -> None:
        self.row = row
        self.place = place
        self.worker: WorkerProcess | None = None
        self.samples: list[dict[str, float]] = []
        self.results: Results | None = None

    @property
    def alive(self) -> bool:
        return self.row.ran

    def attempt(self, action: Callable[..., None], *arguments: Any) -> None:
        """Does something with the worker; a failure ends this backend's part and keeps the reason."""
        if not self.alive:
            return
        try:
            action(self, *arguments)
        except WorkerError as error:
            self.row = Row(self.row.candidate, _explained(error), info=self.row.info)
            if self.worker is not None:
                self.worker.close()
                self.worker = None

    def ask(self) -> WorkerProcess:
        assert self.worker is not None
        return self.worker


def compare(plan: BenchPlan, pictures: Pictures, progress: Progress = lambda what: None) -> list[Row]:
    """Measures every candidate of the plan on the pictures; one row each, in the plan's order.

    All processes stay open while turns go round, so that a machine that becomes faster or slower meanwhile does so
    for all of them. Turns begin with another candidate each round. Outputs are compared before, outside of the time.
    """
    runners = [_Runner(Row(candidate), place) for place, candidate in enumerate(plan.candidates)]
    with tempfile.TemporaryDirectory(prefix="trt_perception_bench_") as name, ExitStack() as stack:
        folder = Path(name)
        paths = pictures.save(folder)
        memory: GpuMemory | None = None
        with suppress(OSError):  # no NVIDIA driver
            memory = stack.enter_context(GpuMemory())
        for runner in runners:
            progress(f"opening {runner.row.name}")
            runner.attempt(_open, plan, folder, paths, memory, stack)
        _compare_outputs(runners, plan, pictures, folder, progress)
        for runner in runners:
            progress(f"warming up {runner.row.name}")
            runner.attempt(_warm_up, plan)
        for turn, start in enumerate(range(0, plan.iterations, plan.runs_per_block)):
            count = min(plan.runs_per_block, plan.iterations - start)
            progress(f"measured {start} of {plan.iterations} frames each")
            for runner in _rotated(runners, turn):
                runner.attempt(_block, plan, start, count)
        for runner in runners:
            runner.attempt(_finish, plan, progress)
    return [runner.row for runner in runners]


def _open(
    runner: _Runner,
    plan: BenchPlan,
    folder: Path,
    paths: Sequence[str],
    memory: GpuMemory | None,
    stack: ExitStack,
) -> None:
    candidate = runner.row.candidate
    worker = WorkerProcess(candidate.python, folder / f"worker{runner.place}.log", plan.time_limit_s, memory)
    runner.worker = worker
    stack.callback(worker.close)
    answer = worker.ask("open", model=plan.model, backend=candidate.request, pictures=list(paths))
    runner.row = replace(
        runner.row,
        info=answer["info"] | {"interpreter": answer["interpreter"]},
        load_ms=answer["load_ms"],
        first_frame_ms=answer["first_frame_ms"],
    )


def _warm_up(runner: _Runner, plan: BenchPlan) -> None:
    if plan.warm_up_frames:
        runner.ask().ask("run", start=0, count=plan.warm_up_frames)


def _block(runner: _Runner, plan: BenchPlan, start: int, count: int) -> None:
    answer = runner.ask().ask("run", undisturbed=True, start=start, count=count, settle=plan.settle_frames)
    runner.samples += answer["samples"]


def _finish(runner: _Runner, plan: BenchPlan, progress: Progress) -> None:
    worker = runner.ask()
    memory = worker.ask("memory")
    batches = []
    for size in plan.batch_sizes:
        progress(f"{runner.row.name}: batches of {size}")
        try:
            answer = worker.ask("run_batch", size=size, warm_up=_BATCH_WARM_UP, iterations=_BATCH_ITERATIONS)
            batches.append(Batch(size, summarize(answer["samples_ms"])))
        except WorkerError as error:
            batches.append(Batch(size, None, str(error)))
    runner.row = replace(
        runner.row,
        samples_ms={stage: [sample[stage] for sample in runner.samples] for stage in runner.samples[0]},
        batches=tuple(batches),
        peak_host_memory_mib=memory["peak_host_memory_mib"],
        peak_device_memory_mib=worker.peak_device_memory_mib,
    )


def _compare_outputs(
    runners: Sequence[_Runner], plan: BenchPlan, pictures: Pictures, folder: Path, progress: Progress
) -> None:
    for runner in runners:
        progress(f"outputs of {runner.row.name}")
        runner.attempt(_take_results, folder, len(pictures.pixels))
    reference = runners[plan.reference].results
    for runner in runners:
        if runner.results is None or not runner.alive:
            continue
        runner.row = replace(
            runner.row,
            agreement=agreement(runner.results, reference) if reference is not None else None,
            precision=precision(runner.results, pictures.truths) if pictures.truths is not None else None,
        )
        if runner is not runners[plan.reference]:
            runner.results = None


def _take_results(runner: _Runner, folder: Path, picture_count: int) -> None:
    path = folder / f"outputs{runner.place}.npz"
    runner.ask().ask("save_outputs", path=str(path))
    runner.results = read_results(path, picture_count)
    path.unlink()


def _rotated(runners: list[_Runner], turn: int) -> list[_Runner]:
    first = turn % len(runners)
    return runners[first:] + runners[:first]


def _explained(error: WorkerError) -> CannotRun:
    """The reason with the doctor's remedy, where it is a failure that the doctor knows."""
    known = recognise(f"{error}\n{error.output_tail}")
    if known is None:
        return CannotRun(str(error))
    driver = run_probe("trt_perception.doctor.probes.driver", "", 20.0).facts or {}
    return CannotRun(str(error), known.name, known.advice(driver))
