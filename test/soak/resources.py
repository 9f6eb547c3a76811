"""What a process holds: resident memory, file descriptors, threads, memory of the GPU."""

from __future__ import annotations

import statistics
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """rss_kib: resident memory. gpu_mib: used on all GPUs, by everybody; None where there is no nvidia-smi."""

    rss_kib: int
    descriptors: int
    threads: int
    gpu_mib: int | None


def sample(pid: int) -> Sample:
    """Raises OSError when the process has ended."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(int(status["VmRSS"].split()[0]), descriptors, int(status["Threads"]), gpu_mib())


def gpu_mib() -> int | None:
    """In a container a GPU does not tell whose memory it is, so this is everybody's."""
    words = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return sum(int(line) for line in done.stdout.split())


@dataclass(frozen=True)
class Growth:
    """From the beginning of the samples to their end, medians of a fifth each.

    rss_mib: the median of each tenth, which tells a leak from a step.
    """

    rss_percent: float
    descriptors: int
    threads: int
    gpu_percent: float | None
    rss_mib: list[float]
    samples: int


def growth(samples: Sequence[Sample]) -> Growth:
    fifth = max(len(samples) // 5, 1)
    first, last = samples[:fifth], samples[-fifth:]

    def medians(name: str) -> tuple[float, float]:
        before, after = (statistics.median(getattr(s, name) for s in part) for part in (first, last))
        return before, after

    def percent(name: str) -> float:
        before, after = medians(name)
        return 100 * (after - before) / before if before else 0.0

    descriptors, threads = medians("descriptors"), medians("threads")
    return Growth(
        round(percent("rss_kib"), 3),
        round(descriptors[1] - descriptors[0]),
        round(threads[1] - threads[0]),
        None if samples[0].gpu_mib is None else round(percent("gpu_mib"), 3),
        [round(statistics.median(s.rss_kib for s in part) / 1024, 1) for part in _tenths(samples)],
        len(samples),
    )


def _tenths(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    size = max(len(samples) // 10, 1)
    return [samples[i : i + size] for i in range(0, len(samples) - size + 1, size)]


class Sampler:
    """Takes a sample a second until stop()."""

    def __init__(self, pid: int, period_s: float = 1.0) -> None:
        self.samples: list[Sample] = []
        self._pid = pid
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            try:
                self.samples.append(sample(self._pid))
            except OSError:
                return

    def stop(self) -> list[Sample]:
        self._ended.set()
        self._thread.join()
        return self.samples
