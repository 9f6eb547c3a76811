"""Runs one node as a process: spins it on threads of its own and ends it in the right order."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import rclpy
from rclpy.exceptions import InvalidParameterException, ParameterException
from rclpy.executors import Executor, ShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from trt_perception.errors import PerceptionError
from trt_perception.ros.node_executor import NodeExecutor

# A model that is being loaded cannot be interrupted: past this the process ends without it.
_STOP_TIMEOUT_S = 2.0
_LEAVE_TIMEOUT_S = 0.5


class RunnableNode(Protocol):
    """What a node of this package offers besides being an rclpy Node."""

    def start(self) -> None:
        """Called once on the executor's side, when the node already answers."""

    def stop(self) -> None:
        """Ends the node's own threads; called once, before the node is destroyed."""


def run_node(create: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Runs until SIGINT or SIGTERM; returns the process's exit code: 0 asked to end, 1 the node failed.

    rclpy's own signal handlers shut its context down at once, under the feet of whatever is publishing; here the
    callbacks end first, then the node's own threads, then the node, then the context.
    """
    with _Ending() as ending:
        words = list(sys.argv if args is None else args)
        try:
            strangers = remove_ros_args(words)[1:]
            if strangers:
                raise PerceptionError(
                    f"unknown arguments {' '.join(strangers)}; give remappings and parameters behind --ros-args, for "
                    "example: --ros-args -r image:=/camera/image_raw -p score_threshold:=0.5"
                )
            rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
            node = create()
        # RuntimeError is rcl's: a parameter file that is missing, a name that is none.
        except (ParameterException, InvalidParameterException, PerceptionError, RuntimeError) as error:
            print(f"cannot start: {error}", file=sys.stderr)
            rclpy.try_shutdown()
            return 1
        _warn_of_unknown_parameters(node)
        executor = NodeExecutor()
        executor.add_node(node)
        spinning = threading.Thread(target=_spin, args=(node, executor, ending), name="executor", daemon=True)
        spinning.start()
        failure = ending.wait()
        if failure is not None:
            print(f"{node.get_name()} ended: {type(failure).__name__}: {failure}", file=sys.stderr)
        _stop(node, executor, spinning)
    return 0 if failure is None else 1


def _warn_of_unknown_parameters(node: Node) -> None:
    """rclpy ignores them, and a misspelt one would look as if it were in force."""
    for name in node._parameter_overrides:
        if not node.has_parameter(name) and not name.startswith("qos_overrides."):
            node.get_logger().warning(f"parameter {name!r} is not known and changes nothing; see `ros2 param list`")


class _Ending:
    """Waits for a signal or a failure.

    The kernel gives a signal to any thread of the process, and only a call that the main thread is interrupted in
    would notice that: so Python writes it to a pipe, which the main thread reads.
    """

    def __enter__(self) -> _Ending:
        self._failure: BaseException | None = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._write)
        os.close(self._read)

    def fail(self, failure: BaseException) -> None:
        """Ends the wait with a failure, unless it is over already; from any thread."""
        self._failure = failure
        with suppress(OSError):
            os.write(self._write, b"f")

    def wait(self) -> BaseException | None:
        """Blocks; None when a signal came."""
        os.read(self._read, 1)
        return self._failure


def _spin(node: Node, executor: Executor, ending: _Ending) -> None:
    try:
        start: Callable[[], None] = node.start
        executor.create_task(start)
        executor.spin()
    except ShutdownException:
        pass
    except BaseException as error:  # of a callback: the process must end and say so, not live on deaf
        ending.fail(error)


def _stop(node: Node, executor: Executor, spinning: threading.Thread) -> None:
    def stop() -> None:
        executor.shutdown()
        spinning.join()
        node.stop()

    stopping = threading.Thread(target=stop, name="stop", daemon=True)
    stopping.start()
    stopping.join(_STOP_TIMEOUT_S)
    if stopping.is_alive():
        print(f"{node.get_name()} ends in the middle of its work", file=sys.stderr, flush=True)
        leaving = threading.Thread(target=_leave, args=(node,), name="leave", daemon=True)
        leaving.start()
        leaving.join(_LEAVE_TIMEOUT_S)
        os._exit(0)
    _leave(node)


def _leave(node: Node) -> None:
    """Out of the graph: what the middleware has reserved in shared memory would outlive the process."""
    node.destroy_node()
    rclpy.try_shutdown()
