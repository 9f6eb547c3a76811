"""The executor of this package's nodes: images are never kept waiting by anything that takes its time."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.executors import Executor, ExternalShutdownException, ShutdownException, TimeoutException
from rclpy.service import Service

# Services run one at a time in each callback group, and no node has more groups of them than this.
_POOL_THREADS = 4
# Until a thread of the pool has picked a callback up, rclpy offers it again and again.
_PICK_UP_S = 0.0002


class NodeExecutor(Executor):
    """Runs subscriptions, timers and events in the spinning thread, services and tasks in threads beside it.

    A service call may load a model; everything else is short. rclpy's MultiThreadedExecutor hands every message to
    another thread and waits for two more wake-ups before it looks at the topic again. With inference in the same
    process that took so long, now and then, that images of a 30 Hz camera replaced each other in a history of depth 1.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="service")
        self._in_pool: list[Any] = []
        self._guarded: set[Service] = set()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Runs one callback, or hands it to the pool; raises what a callback raised, except that of a service."""
        try:
            handler, entity, node = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, ExternalShutdownException, TimeoutException):
            return
        if entity is not None and not isinstance(entity, Service):
            handler()
            handler.result()
        elif handler in self._in_pool:
            time.sleep(_PICK_UP_S)
        else:
            if isinstance(entity, Service) and entity not in self._guarded:
                self._guarded.add(entity)
                entity.callback = _guarded(entity, node)
            self._in_pool.append(handler)
            self._pool.submit(handler)
        for done in [entry for entry in self._in_pool if entry.done()]:
            self._in_pool.remove(done)
            done.result()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """As rclpy's; a call that still runs is not waited for."""
        ended = bool(super().shutdown(timeout_sec))
        self._pool.shutdown(wait=False)
        return ended


def _guarded(service: Service, node: Any) -> Callable[[Any, Any], Any]:
    """Anybody may send a request, so one that makes rclpy or the node raise must not end the process.

    rclpy does for a transition that the present state does not have and for a parameter of a type that there is none
    of. The caller gets the answer's default values, which say that nothing was done.
    """
    callback = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            name = f"{service.srv_name}: {type(request).__name__}"
            node.get_logger().error(f"{name} failed, nothing is done: {type(error).__name__}: {error}")
            node.get_logger().debug(traceback.format_exc())
            return service.srv_type.Response()

    return answer
