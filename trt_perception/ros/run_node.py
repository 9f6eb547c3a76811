"""Runs one node as a process: spins it on threads of its own and ends it in the right order."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol

import rclpy
from rclpy.exceptions import InvalidParameterException, ParameterException
from rclpy.executors import Executor, ShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from trt_perception.errors import PerceptionError
from trt_perception.ros.node_executor import NodeExecutor

# A model that is being loaded cannot be interrupted: past this the process ends without it.
_STOP_TIMEOUT_S = 2.0


class RunnableNode(Protocol):
    """What a node of this package offers besides being an rclpy Node."""

    def start(self) -> None:
        """Called once on the executor's side, when the node already answers."""

    def stop(self) -> None:
        """Ends the node's own threads; called once, before the node is destroyed."""


def run_node(create: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Runs until SIGINT or SIGTERM; returns the process's exit code: 0 asked to end, 1 the node failed.

    rclpy's own signal handlers shut its context down at once, under the feet of whatever is publishing; here the
    node stops first.
    """
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    rclpy.init(args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = create()
    except (ParameterException, InvalidParameterException, PerceptionError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = NodeExecutor()
    executor.add_node(node)
    failures: list[BaseException] = []
    worker = threading.Thread(target=_spin, args=(node, executor, failures, ended), name="executor", daemon=True)
    worker.start()
    ended.wait()
    _stop(node, executor, worker)
    for failure in failures:
        print(f"{node.get_name()} ended: {type(failure).__name__}: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _spin(node: Node, executor: Executor, failures: list[BaseException], ended: threading.Event) -> None:
    try:
        start: Callable[[], None] = node.start
        executor.create_task(start)
        executor.spin()
    except ShutdownException:
        pass
    except BaseException as error:  # of a callback: the process must end and say so, not live on deaf
        failures.append(error)
    finally:
        ended.set()


def _stop(node: Node, executor: Executor, worker: threading.Thread) -> None:
    stopping = threading.Thread(target=lambda: (node.stop(), executor.shutdown(_STOP_TIMEOUT_S)), daemon=True)
    stopping.start()
    stopping.join(_STOP_TIMEOUT_S)
    worker.join(_STOP_TIMEOUT_S / 4)
    if stopping.is_alive() or worker.is_alive():
        print(f"{node.get_name()} ends in the middle of its work", file=sys.stderr, flush=True)
        os._exit(0)
    node.destroy_node()
    rclpy.try_shutdown()
