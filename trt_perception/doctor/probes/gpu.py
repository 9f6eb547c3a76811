"""What nvidia-smi says: driver version, clocks, persistence mode. Read, never set."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from trt_perception.doctor.findings import Facts, Judgement, Level

_FIELDS = ("name", "driver_version", "persistence_mode", "clocks.sm", "clocks.max.sm", "temperature.gpu", "pstate")


def look(argument: str) -> dict[str, Any]:
    """One table a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {"gpus": [], "problem": "no nvidia-smi"}
    command = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {
            "gpus": [],
            "problem": (done.stdout + done.stderr).strip() or f"nvidia-smi ended with {done.returncode}",
        }
    lines = [line.split(",") for line in done.stdout.splitlines() if line.strip()]
    return {"gpus": [dict(zip(_FIELDS, (v.strip() for v in line), strict=False)) for line in lines]}


def judge(facts: Facts, driver: Facts) -> Judgement:
    """Where the driver is there, nvidia-smi should answer."""
    if not facts["gpus"]:
        level = Level.WARNING if driver.get("gpus") else Level.ABSENT
        return Judgement(level, str(facts["problem"]))
    words = "; ".join(
        f"{g['name']}: driver {g['driver_version']}, SM clock {g['clocks.sm']} of {g['clocks.max.sm']}, "
        f"persistence {g['persistence_mode']}"
        for g in facts["gpus"]
    )
    return Judgement(Level.OK, words)
