"""Starts a node: `python -m trt_perception.ros.start detector_node`, and the executables of the same names.

Loading rclpy and the node takes about a second, in which SIGTERM would look like a crash and Ctrl-C leave a traceback:
here a signal ends the process quietly from the first line on. run_node takes over when there is something to shut down.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

NODES = ("detector_node", "camera_node", "budget_monitor_node")


def detector_node() -> int:
    """Entry point of the executable of that name."""
    return _run("detector_node")


def camera_node() -> int:
    """Entry point of the executable of that name."""
    return _run("camera_node")


def budget_monitor_node() -> int:
    """Entry point of the executable of that name."""
    return _run("budget_monitor_node")


def _run(name: str) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    return int(importlib.import_module(f"trt_perception.ros.{name}").main())


def main() -> int:
    """Runs the node that the first argument names; the others are ROS's."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in NODES:
        print(f"there is no node {name!r}; give one of {', '.join(NODES)}", file=sys.stderr)
        return 2
    del sys.argv[1]
    return _run(name)


if __name__ == "__main__":
    sys.exit(main())
