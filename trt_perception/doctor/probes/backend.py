"""The proof of the pudding: one backend, opened as the detector opens it, on one grey picture."""

from __future__ import annotations

import json
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level
from trt_perception.errors import PerceptionError


def look(argument: str) -> dict[str, Any]:
    """argument: JSON of `model` and `backend` (`NAME[:DEVICE][:PRECISION]`)."""
    import numpy as np

    from trt_perception.detector import Detector

    wanted = json.loads(argument)
    facts: dict[str, Any] = {"backend": wanted["backend"], "model": wanted["model"]}
    try:
        with Detector.open(wanted["model"], wanted["backend"]) as detector:
            info = detector.info
            result = detector.detect(np.full((480, 640, 3), 127, np.uint8))
            facts |= {
                "device": info.device,
                "device_name": info.device_name,
                "provider": info.provider,
                "precision": info.precision,
                "library": info.library,
                "first_frame_ms": result.times.total_ns / 1e6,
            }
    except PerceptionError as error:
        facts["error"] = str(error)
    return facts


def judge(facts: Facts, driver: Facts) -> Judgement:
    """The package's own errors say what to do."""
    if "error" in facts:
        return Judgement(Level.FAILED, str(facts["error"]))
    words = (
        f"{facts['library']} on {facts['device']} ({facts['device_name']}), {facts['provider']}, {facts['precision']}"
    )
    return Judgement(Level.OK, words)
