"""`trt-perception`: one entry point, a subcommand a module."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from trt_perception.errors import PerceptionError

# subcommand → its module, which has add_parser(subparsers) and run(args) → exit code.
COMMANDS = {
    "budget": "trt_perception.cli.budget",
    "detect": "trt_perception.cli.detect",
    "inspect": "trt_perception.cli.inspect",
    "demo": "trt_perception.cli.demo",
}

FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand: 0 done, 1 the thing failed, 2 the arguments are wrong."""
    parser = argparse.ArgumentParser(prog="trt-perception", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS.values():
        importlib.import_module(module).add_parser(subparsers)
    args = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s: %(message)s", level=logging.INFO)
    try:
        return int(args.run(args))
    except PerceptionError as error:
        print(f"trt-perception {args.command}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        # The reader of standard output went away, e.g. `| head`: what is still buffered must not fail at exit again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
