"""The name of an NVIDIA GPU, asked of the driver's own tool: works without any Python package."""

from __future__ import annotations

import shutil
import subprocess


def gpu_name(index: int) -> str:
    """What the GPU calls itself, `NVIDIA GPU index` where the tool is absent or does not answer."""
    unknown = f"NVIDIA GPU {index}"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return unknown
    command = [tool, f"--id={index}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return unknown
    return answer.stdout.strip() or unknown


def process_memory_mib(pid: int) -> float | None:
    """GPU memory that a process holds on all GPUs, MiB; None where it holds none or the tool does not tell.

    Inside a container the driver may know the process by another number, and then tells nothing.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    entries = [line.split(",") for line in answer.stdout.splitlines()]
    held = [e[1].strip() for e in entries if len(e) == 2 and e[0].strip() == str(pid)]
    return float(sum(int(mib) for mib in held)) if held and all(mib.isdecimal() for mib in held) else None
