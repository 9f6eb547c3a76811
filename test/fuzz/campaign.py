"""Runs cases in processes of their own, whose memory is bounded and whose silence is noticed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from ctypes import c_int64
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from test.fuzz.target import Target

# What a process may take beside what it has once everything is imported.
MEMORY_BYTES = 1 << 30
CASE_LIMIT_S = 20.0
_FINDINGS_OF_A_TARGET = 5
_POLL_S = 0.2


@dataclass(frozen=True)
class Finding:
    """Case number `index` of a target ended in anything but success or a PerceptionError."""

    target: str
    index: int
    what: str


@dataclass
class Campaign:
    """What was run: cases and accepted inputs by target, what was found, wall-clock and processor seconds."""

    cases: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def total(self) -> int:
        """All cases together."""
        return sum(self.cases.values())


def shares(targets: Mapping[str, Target], cases: int) -> dict[str, int]:
    """How many of the cases each target gets, at least one."""
    weight = sum(target.weight for target in targets.values())
    return {name: max(round(cases * target.weight / weight), 1) for name, target in targets.items()}


def run_campaign(
    table: str,
    wanted: Mapping[str, int],
    *,
    first: int = 0,
    processes: int = 2,
    case_limit_s: float = CASE_LIMIT_S,
    tell: Callable[[str], None] = lambda _: None,
) -> Campaign:
    """Runs `wanted` cases of each target, numbers from `first` on.

    table: the module that has TARGETS. A process that dies or hangs is a finding, and another one goes on behind it.
    """
    campaign = Campaign()
    start_s = time.monotonic()
    jobs = [(name, first, first + count) for name, count in wanted.items()]
    # The longest first, so that the processes end together.
    jobs.sort(key=lambda job: job[1] - job[2])
    running: list[_Worker] = []
    while jobs or running:
        while jobs and len(running) < processes:
            running.append(_Worker(table, *jobs.pop(0)))
        for worker in list(running):
            left = worker.look(campaign, case_limit_s)
            if left is None:
                continue
            running.remove(worker)
            if left[1] < left[2]:
                jobs.insert(0, left)
            else:
                tell(f"{worker.target}: {campaign.cases[worker.target]} cases")
        time.sleep(_POLL_S)
    campaign.wall_s = time.monotonic() - start_s
    return campaign


class _Worker:
    def __init__(self, table: str, target: str, first: int, end: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.target, self._first, self._end = target, first, end
        self._current: Any = context.Value(c_int64, -1, lock=False)
        self._answers: Any = context.Queue()
        self._seen, self._seen_at_s = -1, time.monotonic() + 60.0  # imports take their time
        self._process = context.Process(
            target=_work, args=(table, target, first, end, self._current, self._answers), daemon=True
        )
        self._process.start()

    def look(self, campaign: Campaign, limit_s: float) -> tuple[str, int, int] | None:
        """None while it works, else what is left of its job; takes what it says into the campaign."""
        alive = self._process.is_alive()
        ended = self._take_answers(campaign)
        if ended:
            self._process.join()
            return self.target, self._end, self._end
        current = int(self._current.value)
        if alive and current == self._seen and time.monotonic() - self._seen_at_s > limit_s:
            self._process.kill()
            self._process.join()
            return self._gone(campaign, current, f"no end within {limit_s:g} s")
        if not alive:
            return self._gone(campaign, current, f"the process ended with {self._process.exitcode}")
        if current != self._seen:
            self._seen, self._seen_at_s = current, time.monotonic()
        return None

    def _gone(self, campaign: Campaign, current: int, what: str) -> tuple[str, int, int]:
        if current < 0:
            raise RuntimeError(f"{self.target}: {what} before its first case; start it alone to see why")
        campaign.findings.append(Finding(self.target, current, what))
        done = current + 1 - self._first
        campaign.cases[self.target] = campaign.cases.get(self.target, 0) + done
        return self.target, current + 1, self._end

    def _take_answers(self, campaign: Campaign) -> bool:
        while True:
            try:
                kind, value = self._answers.get_nowait()
            except Empty:
                return False
            if kind == "finding":
                campaign.findings.append(Finding(self.target, *value))
            else:
                cases, accepted, seconds = value
                for table, number in (
                    (campaign.cases, cases),
                    (campaign.accepted, accepted),
                    (campaign.seconds, seconds),
                ):
                    table[self.target] = table.get(self.target, 0) + number
                return True


def _work(table: str, name: str, first: int, end: int, current: Any, answers: Any) -> None:
    import importlib

    # Libraries complain of damaged input on standard error, hundreds of lines a second.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    target: Target = importlib.import_module(table).TARGETS[name]
    # Imports and caches come before the limit.
    with suppress(Exception):
        target.run_case(-1)
    _limit_memory()
    accepted = found = 0
    start_s = time.process_time()
    for index in range(first, end):
        current.value = index
        try:
            accepted += target.run_case(index)
        except Exception:
            found += 1
            if found <= _FINDINGS_OF_A_TARGET:
                answers.put(("finding", (index, traceback.format_exc(limit=-6))))
    answers.put(("end", (end - first, accepted, time.process_time() - start_s)))


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
