"""Shows whether the order in which backends are named changes what `trt-perception bench` finds.

`python -m benchmarks.backend_order` runs it twice, in both orders, and prints each backend's median over the other's.
"""

from __future__ import annotations

import json
import subprocess
import sys

BACKENDS = ("onnxruntime:cpu", "torchscript:cpu")


def ratio(order: tuple[str, ...]) -> float:
    """The second backend's median total time over the first one's, measured in that order."""
    command = [sys.executable, "-m", "trt_perception.cli.main", "bench", "--json"]
    for name in order:
        command += ["--backend", name]
    rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["rows"]
    medians = {row["backend"]: row["stages_ms"]["total"]["p50"] for row in rows}
    return float(medians[BACKENDS[1]] / medians[BACKENDS[0]])


def main() -> int:
    """Prints both ratios; they should agree within 10 % on a quiet machine."""
    first, second = ratio(BACKENDS), ratio(BACKENDS[::-1])
    print(f"{BACKENDS[1]} over {BACKENDS[0]}: {first:.3f} in this order, {second:.3f} in the other")
    return 0


if __name__ == "__main__":
    sys.exit(main())
