"""A thread that waits for images and for nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription

_FOREVER = -1


class TakenElsewhere(MutuallyExclusiveCallbackGroup):
    """Keeps the node's executor from a subscription and its events."""

    def can_execute(self, entity: Any) -> bool:
        """Never, so that executors do not wait for them either.

        Not for the events alone: an image wakes whoever waits for any event of its subscription, and until it is taken
        an executor would turn in circles and hold the interpreter.
        """
        return False


class ImageThread:
    """Takes messages and events of subscriptions as soon as they are there and calls their callbacks.

    rclpy's executors gather all that a node has (some thirty services, timers and events) in Python before each wait.
    That takes longer than taking an image, and inference, which has just got one, waits for the interpreter meanwhile;
    a timer that is at work keeps an image waiting besides. It waits as rclpy's own wait_for_message does.
    """

    def __init__(self, context: Context, failed: Callable[[Exception], None]) -> None:
        """failed: takes what a callback or the middleware raised, which ends the thread."""
        self._context = context
        self._failed = failed
        self._stop = GuardCondition(None, None, context=context)
        self._subscriptions: tuple[Subscription, ...] = ()
        self._events: tuple[Any, ...] = ()
        self._thread: threading.Thread | None = None
        self._running = False

    def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begins to take; their callbacks get the message and its info. Their callback groups are TakenElsewhere."""
        self._subscriptions = tuple(subscriptions)
        self._events = tuple(event for subscription in subscriptions for event in subscription.event_handlers)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="images", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes nothing any more when it returns: the subscriptions may be destroyed. A second call does nothing."""
        if self._thread is not None:
            self._running = False
            self._stop.trigger()
            self._thread.join()
            self._thread = None
            self._stop.destroy()

    def _run(self) -> None:
        try:
            counts = (len(self._subscriptions), 1, 0, 0, 0, len(self._events))
            with self._context.handle:
                wait_set = rclpy_implementation.WaitSet(*counts, self._context.handle)
            while self._running:
                wait_set.clear_entities()
                for subscription in self._subscriptions:
                    wait_set.add_subscription(subscription.handle)
                for event in self._events:
                    event.add_to_wait_set(wait_set)
                wait_set.add_guard_condition(self._stop.handle)
                wait_set.wait(_FOREVER)
                ready = wait_set.get_ready_entities("subscription")
                for subscription in self._subscriptions:
                    if self._running and subscription.handle.pointer in ready:
                        _take(subscription)
                for event in self._events:
                    if event.is_ready(wait_set) and (data := event.take_data()) is not None:
                        event.callback(data)
        except Exception as error:  # deaf and alive would be worse
            self._failed(error)


def _take(subscription: Subscription) -> None:
    with subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is not None:
        subscription.callback(*taken)
