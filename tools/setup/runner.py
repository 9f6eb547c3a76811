"""Does the steps that are not done yet, one line for each, and stops with a reason at the first that fails."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.setup.layout import Checkout, SetupError
from tools.setup.preflight import problems
from tools.setup.stamps import digest, is_done, mark_done, mark_open
from tools.setup.steps import Step


def bring_up(checkout: Checkout, steps: tuple[Step, ...]) -> int:
    """Does what is left of `steps`; returns 0 when all are done and 1, after saying why on stderr, when one fails."""
    with _alone(checkout.root):
        digests = [digest(checkout.root, [checkout.root / name for name in step.inputs], step.texts) for step in steps]
        if all(is_done(checkout.stamps, step.name, current) for step, current in zip(steps, digests, strict=True)):
            return 0
        missing = problems(checkout.root)
        if missing:
            _say("Set-up cannot start:", *(f"  - {sentence}." for sentence in missing))
            return 1
        checkout.venv.mkdir(exist_ok=True)
        for number, (step, current) in enumerate(zip(steps, digests, strict=True), start=1):
            if is_done(checkout.stamps, step.name, current):
                continue
            start_s = time.monotonic()
            print(f"[{number}/{len(steps)}] {step.title} ... ", end="", flush=True)
            mark_open(checkout.stamps, step.name)
            try:
                step.action(checkout)
            except SetupError as error:
                print("failed", flush=True)
                _say(
                    f"Set-up step {number} of {len(steps)} ({step.name}: {step.title}) failed: {error}",
                    f"What to do: {error.remedy}",
                    f"Everything that was printed: {checkout.log}",
                )
                return 1
            mark_done(checkout.stamps, step.name, current)
            print(f"{time.monotonic() - start_s:.0f} s", flush=True)
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other set-up works on the same checkout."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)
