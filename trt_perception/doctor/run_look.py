"""The child's side of a probe: `run_look MODULE ARGUMENT ANSWER_FILE` writes what look(ARGUMENT) returns, as JSON."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(module: str, argument: str, answer: str) -> None:
    """Writes the facts at once, so that they stay when the library breaks while the process ends."""
    facts = importlib.import_module(module).look(argument)
    part = Path(f"{answer}.part")
    part.write_text(json.dumps(facts, default=str), encoding="utf-8")
    part.replace(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
