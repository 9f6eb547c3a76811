"""Peak resident memory of a process: `python -m benchmarks.hot_path.memory` prints that of a plain detector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.hot_path.frames import SIZES, camera_frames
from trt_perception.detector import Detector
from trt_perception.models import DEMO_MODEL

FRAMES_OF_EACH_SIZE = 50


def peak_rss_mb(pid: int | str = "self") -> float:
    """The most memory that the process has had resident so far, in 10^6 bytes, as Linux counts it (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/{pid}/status has no VmHWM")


def detector_peak_rss_mb() -> float:
    """Of a process of its own that opens the demo model on the CPU and sees frames of every size."""
    command = [sys.executable, "-m", "benchmarks.hot_path.memory"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Prints the figure; the frames themselves are made one size at a time, and count."""
    with Detector.open(DEMO_MODEL, "onnxruntime:cpu") as detector:
        for width, height in SIZES:
            frames = camera_frames(width, height)[:1]
            for index in range(FRAMES_OF_EACH_SIZE):
                detector.detect(frames[index % len(frames)])
    print(peak_rss_mb())


if __name__ == "__main__":
    main()
