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
    "bench": "trt_perception.cli.bench",
    "budget": "trt_perception.cli.budget",
    "detect": "trt_perception.cli.detect",
    "build-engine": "trt_perception.cli.build_engine",
    "inspect": "trt_perception.cli.inspect",
    "demo": "trt_perception.cli.demo",
    "doctor": "trt_perception.cli.doctor",
    "profile": "trt_perception.cli.profile",
}

FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand: 0 done, 1 the thing failed, 2 the arguments are wrong."""
    parser = argparse.ArgumentParser(
        prog="trt-perception", description="Object detection that tells what share of a control period it takes."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    given = sys.argv[1:] if arguments is None else list(arguments)
    # One that is named needs none of the others: `doctor` starts where the libraries of `detect` are broken.
    for command in given[:1] if given[:1] and given[0] in COMMANDS else COMMANDS:
        importlib.import_module(COMMANDS[command]).add_parser(subparsers)
    args = parser.parse_args(given)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("trt_perception").setLevel(logging.INFO)
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
