"""Waits until nodes that were started as processes have come so far, and says why when they do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from trt_perception.errors import PerceptionError
from trt_perception.ros.demo_observer import DemoObserver, Seen
from trt_perception.ros.node_processes import NodeProcess

_ERROR_LEVEL = 2  # diagnostic_msgs/DiagnosticStatus.ERROR
# What waiting does not mend: a model that cannot run, a source that cannot be read.
_FINAL_STATUSES = (": inference", ": camera")
START_TIMEOUT_S = 60.0


def wait_until(
    observer: DemoObserver,
    processes: Sequence[NodeProcess],
    ready: Callable[[Seen], bool],
    otherwise: str,
    limit_s: float = START_TIMEOUT_S,
) -> None:
    """Returns when `ready`.

    Raises PerceptionError that begins with `otherwise` (what has not happened) when a node says that it cannot run, or
    with what the nodes say when it takes too long; and with a node's log when its process ends.
    """
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        for process in processes:
            process.require_alive()
        with observer.looking() as seen:
            if ready(seen):
                return
            told = [
                text
                for name, (level, text, _) in seen.diagnostics.items()
                if level == _ERROR_LEVEL and name.endswith(_FINAL_STATUSES)
            ]
        if told:
            raise PerceptionError(f"{otherwise}: {'; '.join(told)}")
        time.sleep(0.05)
    with observer.looking() as seen:
        said = "; ".join(f"{name}: {message}" for name, (_, message, _) in seen.diagnostics.items())
    raise PerceptionError(f"{otherwise} within {limit_s:.0f} s; the nodes say: {said or 'nothing'}")
