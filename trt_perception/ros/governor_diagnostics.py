"""What the governor says in /diagnostics, so that skipped frames do not pass for a slow camera."""

from __future__ import annotations

import time

from trt_perception.control_budget import InferenceGovernor
from trt_perception.ros.diagnostics import OK, Status


def governor_statuses(governor: InferenceGovernor) -> list[Status]:
    """One status while the governor is on, none while it is off."""
    if governor.max_share == 0.0:
        return []
    share = governor.share(time.monotonic_ns())
    skipped = governor.skipped_count
    message = (
        f"max_inference_share holds inference at {100 * governor.max_share:g} % of the time: it takes "
        f"{100 * share:.1f} %, {skipped} frames were skipped"
    )
    values = {"max_share_percent": 100 * governor.max_share, "share_percent": 100 * share, "skipped_count": skipped}
    return [Status("inference share", OK, message, values)]
