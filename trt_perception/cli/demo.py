"""`trt-perception demo`: a camera, the detector and the budget monitor as real ROS 2 nodes, watched for seconds."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from trt_perception.cli.options import add_model_options, backends, hertz, seconds
from trt_perception.dds_environment import with_dds_variables
from trt_perception.errors import PerceptionError
from trt_perception.resources import share_directory

log = logging.getLogger(__name__)

# Drawing costs time, so the pictures are asked for only at the end.
_PICTURE_S = 2.0
_SETTLE_TIMEOUT_S = 10.0


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "demo", help="run camera, detector and budget monitor, and watch them", description=__doc__
    )
    add_model_options(parser)
    parser.add_argument("--source", default="scene", help="folder, video, webcam's number, or `scene` (default)")
    parser.add_argument("--seconds", type=seconds, default=15.0, help="how long to watch (default: %(default)s)")
    parser.add_argument("--rate", type=hertz, default=30.0, metavar="HZ", help="camera rate (default: %(default)s)")
    parser.add_argument(
        "--control-rate", type=hertz, default=50.0, metavar="HZ", help="control loop's rate (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Starts the nodes, shows a live table, writes annotated.png, latency.json and budget.png."""
    # A signal to end leaves no node behind: it unwinds the `with` blocks as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The Fast DDS profile is read when a participant is made, also by the observer in this process.
    os.environ.update(with_dds_variables(os.environ, share_directory() / "config"))
    # On this machine and in a domain of its own, unless the user says otherwise: the demo must not hear, nor be heard
    # by, another graph. 1 to 101 are the domains whose ports are free on Linux.
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 101)))
    try:
        from trt_perception.ros.demo_observer import observing
        from trt_perception.ros.node_processes import node_processes
        from trt_perception.ros.wait_for_nodes import wait_until
    except ImportError as error:
        raise PerceptionError(
            f"ROS 2 cannot be loaded ({error}); run `make demo` in the checkout, or source a ROS 2 distribution"
        ) from error
    from trt_perception.cli.demo_report import account, make_folder, write_outputs

    make_folder(args.output)
    names = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
    print(f"starting the nodes with {' '.join(f'{name}={os.environ[name]}' for name in names)}", flush=True)
    started_s = time.monotonic()
    with observing() as observer, node_processes(_detector_commands(args), os.environ) as detector:
        wait_until(observer, detector, _is_active, "the detector is not active")
        observer.require_alone()
        # The camera starts when somebody listens, so that every picture it sends can be accounted for.
        with node_processes([_camera_command(args)], os.environ) as camera:
            processes = [*detector, *camera]
            wait_until(observer, processes, lambda seen: bool(seen.samples.get("total_ms")), "no detections came")
            first_s = time.monotonic() - started_s
            print(f"first detections after {first_s:.1f} s", flush=True)
            _watch(observer, processes, args.seconds)
        with observer.looking() as seen:
            print(account(seen))
            paths = write_outputs(args.output, seen, first_s)
    for path in paths:
        print(f"wrote {path}")
    return 0


def _watch(observer: Any, processes: list[Any], seconds: float) -> None:
    """Shows the table until the camera has sent everything and the nodes have told what became of it."""
    from trt_perception.cli.demo_report import all_accounted, live_view

    start_s = time.monotonic()
    drawing = False
    with live_view() as show:
        while True:
            time.sleep(0.25)
            for process in processes:
                process.require_alive()
            elapsed_s = time.monotonic() - start_s
            if not drawing and elapsed_s >= seconds - min(_PICTURE_S, seconds / 2):
                observer.watch_annotated_image()
                drawing = True
            with observer.looking() as seen:
                show(seen)
                if all_accounted(seen) or elapsed_s > seconds + _SETTLE_TIMEOUT_S:
                    return


def _detector_commands(args: argparse.Namespace) -> list[Any]:
    from trt_perception.ros.node_processes import NodeCommand

    requests = json.dumps(backends(args))
    return [
        NodeCommand(
            "detector_node",
            [
                *("-r", "image:=image_raw"),
                *("-p", f"model:={args.model}", "-p", f"backends:={requests}"),
                *("-p", f"allow_fallback:={str(args.allow_fallback).lower()}"),
                *("-p", f"require_checksum:={str(args.require_checksum).lower()}"),
                *("-p", f"model_root:={json.dumps(args.model_root or [''])}"),
            ],
        ),
        NodeCommand("budget_monitor_node", ["-p", f"control_rate_hz:={float(args.control_rate)}"]),
    ]


def _camera_command(args: argparse.Namespace) -> Any:
    from trt_perception.ros.node_processes import NodeCommand

    count = max(1, round(args.seconds * args.rate))
    return NodeCommand(
        "camera_node",
        [
            *("-p", f"source:='{args.source}'", "-p", f"rate_hz:={float(args.rate)}"),
            *("-p", f"frame_count:={count}", "-p", "wait_for_subscriber:=true"),
        ],
    )


def _is_active(seen: Any) -> bool:
    return any(values.get("lifecycle_state") == "active" for _, _, values in seen.diagnostics.values())
