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
