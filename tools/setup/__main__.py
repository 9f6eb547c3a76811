"""`python3 -m tools.setup demo|test`: makes or updates `.venv`; does nothing, quickly, when it is up to date."""

from __future__ import annotations

import sys

from tools.setup.layout import this_checkout
from tools.setup.preflight import problems


def main(arguments: list[str]) -> int:
    """Sets up the level named by the only argument; returns 0 done, 1 failed, 2 wrong arguments."""
    checkout = this_checkout()
    # The modules imported below need this version; all other conditions are looked at by the runner.
    if sys.version_info < (3, 10):  # noqa: UP036 - this is where an older one gets its message
        print("Set-up cannot start:", *problems(checkout.root), sep="\n  - ", file=sys.stderr)
        return 1
    from tools.setup.runner import bring_up
    from tools.setup.steps import LEVELS

    if len(arguments) != 1 or arguments[0] not in LEVELS:
        print(f"got {arguments}, expected one of: {', '.join(LEVELS)}", file=sys.stderr)
        return 2
    try:
        return bring_up(checkout, LEVELS[arguments[0]](checkout.root))
    except KeyboardInterrupt:
        print("\nInterrupted; the next run goes on with the step that was not finished.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
