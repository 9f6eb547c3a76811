"""OpenCV, and whether cv_bridge could work with it."""

from __future__ import annotations

from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level, missing
from trt_perception.doctor.probes.distributions import import_facts, installed

_INSTALL = '`pip install "opencv-python-headless<5"`'


def look(argument: str) -> dict[str, Any]:
    """Version, threads, and the distributions that share the name cv2."""
    facts = {**import_facts("cv2"), "distributions": installed(r"opencv(-contrib)?-python(-headless)?")}
    if "version" in facts:
        import cv2

        facts["threads"] = cv2.getNumThreads()
    return facts


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Missing fails; version 5, and several builds on top of each other, are warnings."""
    if missing(facts, _INSTALL) is not None:
        return Judgement(Level.FAILED, f"cannot be imported: {facts['import_error']}", _INSTALL)
    builds = list(facts["distributions"])
    if len(builds) > 1:
        return Judgement(
            Level.WARNING,
            f"{facts['version']}, {len(builds)} builds installed over each other ({', '.join(builds)})",
            f"`pip uninstall {' '.join(builds)}`, then {_INSTALL}",
        )
    if int(str(facts["version"]).split(".")[0]) >= 5:
        return Judgement(Level.WARNING, f"{facts['version']}; cv_bridge does not work with OpenCV 5", _INSTALL)
    return Judgement(Level.OK, f"{facts['version']}, {facts['threads']} threads")
