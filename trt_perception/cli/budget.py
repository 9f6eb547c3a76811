"""`trt-perception budget`: follows the control budget live in the terminal, and saves it as a picture."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_perception.cli.options import seconds
from trt_perception.control_budget.picture import delay_note, write_budget_picture
from trt_perception.control_budget.terminal import view_lines
from trt_perception.errors import PerceptionError

if TYPE_CHECKING:
    from trt_perception.ros.follow_budget import BudgetFollower

_REFRESH_S = 0.25
# Where nobody sees a live view, it is printed no more often than this.
_PLAIN_PERIOD_S = 1.0
_CLEAR = "\x1b[H\x1b[J"


def add_parser(subparsers: Any) -> None:
    """Adds `budget` to the subcommands."""
    parser = subparsers.add_parser(
        "budget",
        help="what share of each control period inference takes, live",
        description="Follows control_budget, which budget_monitor_node publishes, until Ctrl-C or --duration.",
    )
    parser.add_argument("--topic", default="control_budget", help="topic of the monitor (default: %(default)s)")
    parser.add_argument("--duration", type=seconds, metavar="S", help="end so long after the first message")
    parser.add_argument(
        "--wait", type=seconds, default=15.0, metavar="S", help="for the first message (default: %(default)s)"
    )
    parser.add_argument("--save", type=Path, metavar="PNG", help="write a picture of the last window at the end")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each message instead of the view")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Follows the budget; raises PerceptionError where no monitor speaks or the picture cannot be made."""
    try:
        from trt_perception.ros.follow_budget import follow_budget
    except ModuleNotFoundError as error:
        raise PerceptionError(f"following control_budget needs ROS 2 ({error}); source its setup.bash") from error
    with follow_budget(args.topic) as (follower, listen):
        try:
            _follow(follower, listen, args)
        except KeyboardInterrupt:
            print(file=sys.stderr)
        view = follower.view()
        if view is None:
            raise PerceptionError(
                f"nothing came on {follower.topic} within {args.wait:g} s; start budget_monitor_node, or name its "
                "topic with --topic"
            )
        if args.save is not None:
            if (note := delay_note()) is not None:
                print(note, file=sys.stderr)
            write_budget_picture(args.save, follower.shares(), follower.thresholds(), view.sentence)
            print(f"saved {args.save}", file=sys.stderr)
    return 0


def _follow(follower: BudgetFollower, listen: Callable[[float], None], args: argparse.Namespace) -> None:
    """Waits for the monitor, then shows what comes until the time is over."""
    waits_until = time.monotonic() + args.wait
    while follower.received == 0:
        if time.monotonic() > waits_until:
            return
        listen(_REFRESH_S)
    end = float("inf") if args.duration is None else time.monotonic() + args.duration
    period_s = 0.0 if args.json or sys.stdout.isatty() else _PLAIN_PERIOD_S
    shown, shown_s = 0, float("-inf")
    while time.monotonic() < end:
        if follower.received > shown and time.monotonic() - shown_s >= period_s:
            shown, shown_s = follower.received, time.monotonic()
            _show(follower, args.json)
        listen(min(_REFRESH_S, max(end - time.monotonic(), 0.0)))


def _show(follower: BudgetFollower, as_json: bool) -> None:
    view = follower.view()
    assert view is not None, "a message was received"
    if as_json:
        print(json.dumps({"sentence": view.sentence, "verdict": view.verdict.label, **view.named}), flush=True)
        return
    live = sys.stdout.isatty()
    lines = view_lines(view, follower.thresholds(), shutil.get_terminal_size().columns, color=live)
    print((_CLEAR if live else "") + "\n".join(lines), flush=True)
