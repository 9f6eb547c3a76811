"""The table of targets; those of messages are there where rclpy is."""

from __future__ import annotations

import importlib.util

from test.fuzz import message_targets, model_targets, output_targets, picture_targets
from test.fuzz.target import Target

_MESSAGES = message_targets.TARGETS if importlib.util.find_spec("rclpy") is not None else ()
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*picture_targets.TARGETS, *_MESSAGES, *output_targets.TARGETS, *model_targets.TARGETS)
}
