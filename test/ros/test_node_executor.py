"""The nodes' executor: what takes its time is beside the spinning thread, and no failure is swallowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool

from test.setup.processes import private_domain
from trt_perception.ros.node_executor import NodeExecutor

TIMEOUT_S = 10.0


class Spinning:
    """A node in an executor that spins in a thread of its own."""

    def __init__(self, node: Any, executor: NodeExecutor) -> None:
        self.node = node
        self.executor = executor
        self.raised: list[Exception] = []
        self.thread = threading.Thread(target=self._spin, daemon=True)

    def _spin(self) -> None:
        try:
            self.executor.spin()
        except RuntimeError as error:
            self.raised.append(error)

    def call(self, name: str) -> Any:
        client = self.node.create_client(SetBool, name)
        assert client.wait_for_service(TIMEOUT_S)
        return client.call_async(SetBool.Request())


@contextmanager
def spinning() -> Iterator[Spinning]:
    context = Context()
    domain = int(private_domain()["ROS_DOMAIN_ID"])
    rclpy.init(args=[], context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("under_test", context=context)
    executor = NodeExecutor(context=context)
    executor.add_node(node)
    running = Spinning(node, executor)
    yield running
    executor.shutdown()
    running.thread.join(TIMEOUT_S)
    assert not running.thread.is_alive()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def until(happened: Any) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_timers_go_on_and_other_services_answer_while_a_service_takes_its_time() -> None:
    release = threading.Event()
    ticks: list[str] = []

    def slow(_: Any, response: Any) -> Any:
        assert release.wait(TIMEOUT_S)
        response.message = "slow"
        return response

    def quick(_: Any, response: Any) -> Any:
        response.message = threading.current_thread().name
        return response

    with spinning() as running:
        for name, callback in (("slow", slow), ("quick", quick)):
            running.node.create_service(SetBool, name, callback, callback_group=MutuallyExclusiveCallbackGroup())
        running.node.create_timer(
            0.01, lambda: ticks.append(threading.current_thread().name), callback_group=MutuallyExclusiveCallbackGroup()
        )
        running.thread.start()
        late = running.call("slow")
        early = running.call("quick")
        until(early.done)
        before = len(ticks)
        until(lambda: len(ticks) > before + 10)
        assert not late.done()
        release.set()
        until(late.done)
        assert late.result().message == "slow"
        assert early.result().message.startswith("service")
        assert set(ticks) == {running.thread.name}


def test_what_a_timer_raises_comes_out_of_spin() -> None:
    def fail() -> None:
        raise RuntimeError("the timer failed")

    with spinning() as running:
        running.node.create_timer(0.01, fail)
        running.thread.start()
        until(lambda: running.raised)
        assert str(running.raised[0]) == "the timer failed"


def test_a_service_that_raises_answers_with_defaults_and_the_node_goes_on() -> None:
    def fail(_: Any, response: Any) -> Any:
        response.success = True
        raise RuntimeError("the service failed")

    with spinning() as running:
        running.node.create_service(SetBool, "broken", fail)
        running.thread.start()
        for _ in range(2):
            answer = running.call("broken")
            until(answer.done)
            assert not answer.result().success
        assert running.raised == []


def test_a_task_runs_once() -> None:
    ran: list[int] = []
    with spinning() as running:
        running.executor.create_task(lambda: ran.append(1))
        running.thread.start()
        until(lambda: ran)
        time.sleep(0.1)
        assert ran == [1]
