"""Runs the tests under coverage, brings the data of all processes together and reports.

`python -m tools.coverage_run [PYTEST ARGUMENT...]`, in `.venv`. Exit 1 below the bounds of QUALITY_DECLARATION.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LEAST_LINES_PERCENT = 92.0
LEAST_BRANCHES_PERCENT = 85.0
# What is written is what these tests look at, and measuring writes.
NOT_MEASURED = ("test/ros/test_node_writes_nowhere.py", "test/test_no_telemetry.py")


def main(arguments: list[str]) -> int:
    """Prints the table and the two figures; the tests' own failures are told by pytest."""
    with tempfile.TemporaryDirectory(prefix="trt_perception_coverage_") as folder:
        environment = {**os.environ, "COVERAGE_FILE": str(Path(folder) / "data")}

        def coverage(*words: str) -> int:
            return subprocess.run([sys.executable, "-m", "coverage", *words], env=environment, check=False).returncode

        ignored = [f"--ignore={path}" for path in NOT_MEASURED]
        tests = coverage("run", "-m", "pytest", "-q", *ignored, *arguments)
        report = Path(folder) / "report.json"
        for words in (("combine", "-q"), ("report",), ("json", "-q", "-o", str(report))):
            if coverage(*words):
                return 1
        lines, branches = percentages(json.loads(report.read_text(encoding="utf-8"))["totals"])
    print(
        f"lines {lines:.1f} % (bound {LEAST_LINES_PERCENT} %), branches {branches:.1f} % ({LEAST_BRANCHES_PERCENT} %)"
    )
    return 1 if tests or lines < LEAST_LINES_PERCENT or branches < LEAST_BRANCHES_PERCENT else 0


def percentages(totals: dict[str, int]) -> tuple[float, float]:
    """Of lines and of branches."""
    return (
        100 * totals["covered_lines"] / totals["num_statements"],
        100 * totals["covered_branches"] / totals["num_branches"],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
