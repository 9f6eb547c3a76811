"""The table of targets."""

from __future__ import annotations

from test.fuzz import model_targets, output_targets, picture_targets
from test.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target for target in (*picture_targets.TARGETS, *output_targets.TARGETS, *model_targets.TARGETS)
}
