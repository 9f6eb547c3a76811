"""Runs all probes and says of each backend whether it runs, why not, and what to do."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from trt_perception.backends import backend_class, backend_table
from trt_perception.doctor.child import run_probe
from trt_perception.doctor.findings import Facts, Finding, Judgement, Level, Outcome
from trt_perception.doctor.known_failures import recognise

_PROBES = "trt_perception.doctor.probes"
DRIVER = "driver"

# what to call it → (module under probes/, what its look() is given). A new probe is a file and a line here.
PROBES: dict[str, tuple[str, str]] = {
    "python": ("python", ""),
    "numpy": ("numpy", ""),
    "opencv": ("opencv", ""),
    "ros": ("ros", ""),
    "rmw": ("rmw", ""),
    "messages": ("messages", ""),
    DRIVER: ("driver", ""),
    "gpu": ("gpu", ""),
    "cudnn": ("cudnn", ""),
    "torch": ("torch", ""),
    "onnxruntime cpu": ("onnxruntime", "CPUExecutionProvider"),
    "onnxruntime cuda": ("onnxruntime", "CUDAExecutionProvider"),
    "onnxruntime tensorrt": ("onnxruntime", "TensorrtExecutionProvider"),
    "tensorrt": ("tensorrt", "tensorrt"),
    "tensorrt lean": ("tensorrt", "tensorrt_lean"),
    "tensorrt dispatch": ("tensorrt", "tensorrt_dispatch"),
    "pycuda": ("pycuda", ""),
}
_BACKEND_PROBE = "backend"
# Two at a time: on a small machine more would run into their time limits by each other.
_AT_ONCE = 2

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BackendVerdict:
    """Whether one backend (`NAME:DEVICE`) runs with the model; finding.level is OK or FAILED."""

    backend: str
    finding: Finding

    @property
    def can_run(self) -> bool:
        """True where it did run, on the device that was asked for."""
        return self.finding.level is Level.OK


@dataclass(frozen=True)
class Diagnosis:
    """findings: of every probe, in the order of PROBES; backends: in the order asked for."""

    findings: tuple[Finding, ...]
    backends: tuple[BackendVerdict, ...]


def every_backend() -> list[str]:
    """`NAME:DEVICE` for each backend and each device that it knows."""
    return [f"{name}:{device}" for name in sorted(backend_table()) for device in backend_class(name).devices]


def examine(
    backends: Sequence[str], model: str, *, time_limit_s: float = 60.0, progress: Progress = lambda name: None
) -> Diagnosis:
    """Looks at everything, each in a process of its own; progress is called with the name of each probe that is done.

    backends: `NAME[:DEVICE][:PRECISION]`, each of which is opened with `model` and given a picture. A probe that does
    not answer within time_limit_s is ended and counts as failed. Raises nothing for what it finds.
    """

    def look(name: str, module: str, argument: str) -> Outcome:
        outcome = run_probe(f"{_PROBES}.{module}", argument, time_limit_s)
        progress(name)
        return outcome

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        looks = {name: pool.submit(look, name, *what) for name, what in PROBES.items()}
        opened = [
            pool.submit(look, backend, _BACKEND_PROBE, json.dumps({"backend": backend, "model": model}))
            for backend in backends
        ]
        driver = looks[DRIVER].result().facts or {}
        findings = [judged(name, PROBES[name][0], looks[name].result(), driver) for name in PROBES]
        verdicts = [
            BackendVerdict(backend, judged(backend, _BACKEND_PROBE, future.result(), driver))
            for backend, future in zip(backends, opened, strict=True)
        ]
    return Diagnosis(tuple(findings), tuple(verdicts))


def judged(name: str, module: str, outcome: Outcome, driver: Facts) -> Finding:
    """What an outcome means; a failure that is known by name gets its own remedy."""
    facts = outcome.facts
    if facts is None:
        judgement = Judgement(Level.FAILED, f"its process {outcome.failure or 'said nothing'}{_last_line(outcome)}")
    else:
        judgement = importlib.import_module(f"{_PROBES}.{module}").judge(facts, driver)
        if outcome.failure is not None:
            words = f"{judgement.summary}; but the process {outcome.failure} after that"
            judgement = Judgement(_worse(judgement.level), words, judgement.remedy)
    known = recognise(f"{judgement.summary}\n{outcome.output_tail}") if judgement.level is Level.FAILED else None
    remedy = known.advice(driver) if known is not None else judgement.remedy
    if remedy is None and facts is None:
        remedy = f"install it again, or take it out of the environment (the probe is {_PROBES}.{module})"
    return Finding(name, judgement.level, judgement.summary, remedy, known.name if known else None, facts or {})


def _worse(level: Level) -> Level:
    return Level.WARNING if level is Level.OK else level


def _last_line(outcome: Outcome) -> str:
    line = next((text.strip() for text in reversed(outcome.output_tail.splitlines()) if text.strip()), "")
    return f" ({line[:300]})" if line else ""
