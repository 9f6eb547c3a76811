"""`trt-perception demo`: a camera, the detector and the budget monitor as real ROS 2 nodes, watched for seconds."""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from trt_perception.cli.options import add_model_options, backends
from trt_perception.dds_environment import with_dds_variables
from trt_perception.errors import PerceptionError
from trt_perception.resources import share_directory

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
# Drawing costs time, so the pictures are asked for only at the end.
_PICTURE_S = 2.0


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("demo", help="run camera, detector and budget monitor, and watch them")
    add_model_options(parser)
    parser.add_argument("--source", default="scene", help="folder, video, webcam's number, or `scene` (default)")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to watch (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="camera rate (default: %(default)s)")
    parser.add_argument(
        "--control-rate", type=float, default=50.0, metavar="HZ", help="control loop's rate (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Starts the nodes, shows a live table, writes annotated.png, latency.json and budget.png."""
    # The Fast DDS profile is read when a participant is made, also by the observer in this process. It stays on this
    # machine unless the user says otherwise.
    os.environ.update(with_dds_variables(os.environ, share_directory() / "config"))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        from trt_perception.ros.demo_observer import observing
        from trt_perception.ros.node_processes import node_processes
    except ImportError as error:
        raise PerceptionError(
            f"ROS 2 cannot be loaded ({error}); run `make demo` in the checkout, or source a ROS 2 distribution"
        ) from error
    from trt_perception.cli.demo_report import live_view, write_outputs

    started_s = time.monotonic()
    print(f"ROS_DOMAIN_ID={os.environ.get('ROS_DOMAIN_ID', '0')}, on this machine only; starting the nodes", flush=True)
    with node_processes(_commands(args), os.environ) as processes, observing() as observer:
        first_s = _wait_for_first(observer, processes, started_s)
        print(f"first detections after {first_s:.1f} s", flush=True)
        end_s = time.monotonic() + args.seconds
        pictures_s = end_s - min(_PICTURE_S, args.seconds / 2)
        watching = False
        with live_view() as show:
            while time.monotonic() < end_s:
                time.sleep(0.25)
                for process in processes:
                    process.require_alive()
                if not watching and time.monotonic() >= pictures_s:
                    observer.watch_annotated_image()
                    watching = True
                with observer.looking() as seen:
                    show(seen)
        with observer.looking() as seen:
            paths = write_outputs(args.output, seen, first_s)
    for path in paths:
        print(f"wrote {path}")
    return 0


def _commands(args: argparse.Namespace) -> list[Any]:
    from trt_perception.ros.node_processes import NodeCommand

    requests = json.dumps(backends(args))
    return [
        NodeCommand(
            "trt_perception.ros.detector_node",
            [
                *("-r", "image:=image_raw"),
                *("-p", f"model:={args.model}", "-p", f"backends:={requests}"),
                *("-p", f"allow_fallback:={str(args.allow_fallback).lower()}"),
            ],
        ),
        NodeCommand("trt_perception.ros.budget_monitor_node", ["-p", f"control_rate_hz:={float(args.control_rate)}"]),
        NodeCommand(
            "trt_perception.ros.camera_node",
            ["-p", f"source:='{args.source}'", "-p", f"rate_hz:={float(args.rate)}"],
        ),
    ]


def _wait_for_first(observer: Any, processes: list[Any], started_s: float) -> float:
    """Seconds from the start until the first latency message."""
    while time.monotonic() - started_s < _START_TIMEOUT_S:
        for process in processes:
            process.require_alive()
        with observer.looking() as seen:
            if seen.samples.get("total_ms"):
                return time.monotonic() - started_s
            problems = [text for level, text, _ in seen.diagnostics.values() if level >= 2]
        time.sleep(0.05)
    told = "; ".join(problems) or "no node said why"
    raise PerceptionError(f"no detections within {_START_TIMEOUT_S:.0f} s: {told}")
