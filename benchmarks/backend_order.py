"""Shows whether the order in which backends are named changes what `trt-perception bench` finds.

`python -m benchmarks.backend_order [PAIRS]` runs it in both orders, PAIRS times (1), and prints how much longer the
second backend takes: in the median round of turns, which is what `bench` reports, and by the medians of all frames.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import NamedTuple

BACKENDS = ("onnxruntime:cpu", "torchscript:cpu")


class Ratio(NamedTuple):
    """The second backend's time over the first one's."""

    by_round: float
    by_median: float


def ratio(order: tuple[str, ...]) -> Ratio:
    """Measured in that order."""
    command = [sys.executable, "-m", "trt_perception.cli.main", "bench", "--json", "--reference", BACKENDS[0]]
    for name in order:
        command += ["--backend", name]
    rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["rows"]
    first, second = (next(row for row in rows if row["backend"] == name) for name in BACKENDS)
    medians = [row["stages_ms"]["total"]["p50"] for row in (first, second)]
    return Ratio(second["ratio_to_reference"], medians[1] / medians[0])


def main() -> int:
    """Prints the ratios; those of a pair should agree within 10 % on a quiet machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=int, nargs="?", default=1)
    for _ in range(parser.parse_args().pairs):
        there, back = ratio(BACKENDS), ratio(BACKENDS[::-1])
        apart = 100 * (max(there.by_round, back.by_round) / min(there.by_round, back.by_round) - 1)
        print(
            f"{BACKENDS[1]} over {BACKENDS[0]}: {there.by_round:.3f} in this order, {back.by_round:.3f} in the other, "
            f"{apart:.1f} % apart (by medians {there.by_median:.3f} and {back.by_median:.3f})",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
