"""`ros2 launch` as a process, for tests on machines that have the command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from test.logged_process import LoggedProcess
from test.ros.graph import Graph
from trt_perception.dds_environment import dds_variables
from trt_perception.resources import share_directory
from trt_perception.ros.node_processes import end_process


class Launched(LoggedProcess):
    """The process `ros2 launch`, and what it printed."""

    def pids(self) -> dict[str, int]:
        """The newest process of each executable."""
        found = re.findall(r"\[(\w+)-\d+\]: process started with pid \[(\d+)\]", self.log())
        return {name: int(pid) for name, pid in found}


@contextmanager
def launched(graph: Graph, *arguments: str) -> Iterator[Launched]:
    with tempfile.TemporaryFile() as log:
        environment = graph.environment()
        # The launch file has to bring them, also where the shell has not.
        for name in dds_variables(share_directory() / "config"):
            environment.pop(name, None)
        process = subprocess.Popen(
            ["ros2", "launch", "trt_perception", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Launched(process, log)
        finally:
            end_process(process)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
