"""Starts nodes as processes of their own where no `launch` package is installed, and ends them."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from trt_perception.errors import PerceptionError

_END_TIMEOUT_S = 5.0
_LOG_LINES = 8


@dataclass(frozen=True)
class NodeCommand:
    """A node to start: the name of its executable, and its ROS arguments without --ros-args."""

    executable: str
    ros_arguments: Sequence[str] = ()


@dataclass(frozen=True)
class NodeProcess:
    """A started node and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def require_alive(self) -> None:
        """Raises PerceptionError with the last lines of its log when it has ended."""
        code = self.process.poll()
        if code is not None:
            self.log.seek(0)
            lines = self.log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
            raise PerceptionError(f"{self.name} ended with exit code {code}: " + " | ".join(lines))


@contextmanager
def node_processes(commands: Sequence[NodeCommand], environment: Mapping[str, str]) -> Iterator[list[NodeProcess]]:
    """Runs the nodes for the length of the `with` block; ends them by SIGINT, after 5 s by force."""
    with ExitStack() as stack:
        started: list[NodeProcess] = []
        for command in commands:
            log = stack.enter_context(tempfile.TemporaryFile())
            words = [sys.executable, "-m", "trt_perception.ros.start", command.executable]
            if command.ros_arguments:
                words += ["--ros-args", *command.ros_arguments]
            process = subprocess.Popen(
                words, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            node = NodeProcess(command.executable, process, log)
            stack.callback(end_process, process)
            started.append(node)
        yield started


def end_process(process: subprocess.Popen[Any], ask: Callable[[], object] | None = None) -> None:
    """Asks it to end, by SIGINT or in the way given, and ends it by force after 5 s; one that has ended stays so.

    By force comes last because a process that is killed leaves its shared-memory segment behind.
    """
    if process.poll() is None:
        (ask or partial(process.send_signal, signal.SIGINT))()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
