"""A private ROS graph for tests: nodes as processes of their own, and a client in the test's process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from test.domains import private_domain
from test.logged_process import LoggedProcess
from trt_perception.dds_environment import with_dds_variables
from trt_perception.resources import share_directory
from trt_perception.ros import qos
from trt_perception.ros.messages import image_to_message
from trt_perception.ros.node_processes import end_process
from trt_perception.types import Uint8Array

TIMEOUT_S = 30.0
FAKE_BACKEND = Path(__file__).parent.parent / "fake_backend"
CHECKOUT = Path(__file__).parents[2]


class Mailbox:
    """Messages of one topic, in the order in which they came."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.messages: list[Any] = []
        self._came = threading.Condition()

    def put(self, message: Any) -> None:
        with self._came:
            self.messages.append(message)
            self._came.notify_all()

    def wait_for(self, wanted: Callable[[Any], bool] = lambda _: True, timeout_s: float = TIMEOUT_S) -> Any:
        """The first message, also among those already there, that is wanted; fails after the time limit."""
        end_s = time.monotonic() + timeout_s
        position = 0
        with self._came:
            while True:
                while position < len(self.messages):
                    if wanted(self.messages[position]):
                        return self.messages[position]
                    position += 1
                left_s = end_s - time.monotonic()
                assert left_s > 0, f"no such message within {timeout_s} s; the last of {position}: {self.messages[-1:]}"
                self._came.wait(left_s)

    def clear(self) -> None:
        with self._came:
            self.messages.clear()


class Graph:
    """One domain with a client node; start() adds node processes."""

    def __init__(self) -> None:
        self.domain = private_domain()
        self._stack = ExitStack()
        self._context = Context()

    def __enter__(self) -> Graph:
        for name, value in self.environment().items():
            if name.startswith(("ROS_AUTOMATIC", "FASTRTPS", "FASTDDS")):
                os.environ[name] = value
        rclpy.init(
            args=[], context=self._context, domain_id=self.domain, signal_handler_options=SignalHandlerOptions.NO
        )
        self.node = rclpy.create_node("test_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        with suppress(ShutdownException, ExternalShutdownException):
            self._executor.spin()

    def environment(self) -> dict[str, str]:
        environment = with_dds_variables(os.environ, share_directory() / "config")
        environment["ROS_DOMAIN_ID"] = str(self.domain)
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        paths = [str(CHECKOUT), str(FAKE_BACKEND), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
        return environment

    def start(self, node: str, *ros_arguments: str) -> LoggedProcess:
        """Runs a node until the graph ends."""
        log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        words = [sys.executable, "-m", "trt_perception.ros.start", node, "--ros-args", *ros_arguments]
        process = subprocess.Popen(words, env=self.environment(), stdout=log, stderr=subprocess.STDOUT)
        self._stack.callback(end_process, process)
        return LoggedProcess(process, log)

    def listen(self, kind: Any, topic: str, profile: QoSProfile = qos.MONITOR_SUBSCRIPTION) -> Mailbox:
        mailbox = Mailbox(self.node.resolve_topic_name(topic))
        self.node.create_subscription(kind, topic, mailbox.put, profile)
        return mailbox

    def camera(self, topic: str = "image", profile: QoSProfile = qos.IMAGE_PUBLISHER) -> TestCamera:
        return TestCamera(self.node, topic, profile)

    def wait_until(
        self, holds: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S, pause_s: float = 0.02
    ) -> None:
        """Waits for something of the graph; fails, with its name, after the time limit."""
        end_s = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < end_s, f"not within {timeout_s} s: {what}"
            time.sleep(pause_s)

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(timeout_s), f"no service {name} within {timeout_s} s"
            done = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _: done.set())
            assert done.wait(timeout_s), f"{name} did not answer within {timeout_s} s"
            return future.result()
        finally:
            self.node.destroy_client(client)

    def ask(self, kind: Any, name: str, request: Any, patience_s: float = 4.0) -> Any:
        """call() of a service that may be called twice.

        Asks again where an answer was lost: a server may hear a request before it knows where to send the answer.
        """
        for _ in range(2):
            with suppress(AssertionError):
                return self.call(kind, name, request, patience_s)
        return self.call(kind, name, request)

    def set_parameters(self, node: str, **values: Any) -> Sequence[Any]:
        """Sets them one by one, as `ros2 param set` does; dots are written as double underscores."""
        parameters = [Parameter(k.replace("__", "."), value=v).to_parameter_msg() for k, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        results: Sequence[Any] = self.ask(SetParameters, f"{node}/set_parameters", request, 20.0).results
        return results

    def get_parameter(self, node: str, name: str) -> Any:
        answer = self.ask(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=[name]))
        return parameter_value_to_python(answer.values[0])

    def describe(self, node: str, *names: str) -> Sequence[Any]:
        request = DescribeParameters.Request(names=list(names))
        descriptors: Sequence[Any] = self.ask(DescribeParameters, f"{node}/describe_parameters", request).descriptors
        return descriptors

    def change_state(self, node: str, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str) -> str:
        return str(self.ask(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def wait_for_state(self, node: str, wanted: str, timeout_s: float = TIMEOUT_S) -> None:
        end_s = time.monotonic() + timeout_s
        while (found := self.state(node)) != wanted:
            assert time.monotonic() < end_s, f"{node} is {found}, not {wanted}"
            time.sleep(0.05)


class TestCamera:
    """Publishes pictures from the test's process."""

    __test__ = False

    def __init__(self, node: Any, topic: str, profile: QoSProfile) -> None:
        self._publisher = node.create_publisher(Image, topic, profile)

    def wait_for_subscriber(self, timeout_s: float = TIMEOUT_S) -> None:
        end_s = time.monotonic() + timeout_s
        while self._publisher.get_subscription_count() == 0:
            assert time.monotonic() < end_s, f"nobody subscribes to {self._publisher.topic_name}"
            time.sleep(0.02)

    def send(self, pixels: Uint8Array, encoding: str = "bgr8", stamp: Time | None = None, frame_id: str = "eye") -> Any:
        header = Header(stamp=stamp or Time(sec=1, nanosec=2), frame_id=frame_id)
        message = image_to_message(pixels, encoding, header)
        self._publisher.publish(message)
        return message

    def send_message(self, message: Image) -> None:
        self._publisher.publish(message)


def grey(width: int = 640, height: int = 480) -> Uint8Array:
    return np.full((height, width, 3), 127, np.uint8)


def values_of(message: Any) -> dict[str, float]:
    """Names and values of a Statistics message."""
    return {entry.name: entry.value for entry in message.statistics}
