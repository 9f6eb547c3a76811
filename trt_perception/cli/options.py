"""Options that several subcommands share."""

from __future__ import annotations

import argparse

from trt_perception.backend_request import BackendRequest
from trt_perception.backends import backend_class
from trt_perception.errors import PerceptionError
from trt_perception.models import DEMO_MODEL
from trt_perception.trust import Trust

MODEL_HELP = "model file (.yaml), bare .onnx / .torchscript / .engine, or a shipped model (default: %(default)s)"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--model, --backend (once a backend), --allow-fallback, and those of add_trust_options."""
    parser.add_argument("--model", default=DEMO_MODEL, help=MODEL_HELP)
    parser.add_argument(
        "--backend",
        action="append",
        type=known_backend,
        metavar="NAME[:DEVICE][:PRECISION]",
        help="e.g. onnxruntime:cpu, torchscript:cuda:fp16; may stand several times (default: onnxruntime)",
    )
    parser.add_argument(
        "--allow-fallback",
        action="store_true",
        help="let another device, or the next --backend, run instead; it is announced",
    )
    add_trust_options(parser)


def add_trust_options(parser: argparse.ArgumentParser) -> None:
    """--require-checksum, --model-root (once a folder)."""
    parser.add_argument(
        "--require-checksum", action="store_true", help="refuse a model file without a sha256 for every artifact"
    )
    parser.add_argument(
        "--model-root",
        action="append",
        default=[],
        metavar="DIR",
        help="folder in which the model and what it names have to lie; may stand several times (default: anywhere)",
    )


def trust(args: argparse.Namespace) -> Trust:
    """What the options ask of the model."""
    return Trust.of(args.require_checksum, args.model_root)


def backends(args: argparse.Namespace) -> list[str]:
    """The backends asked for, the default when none was."""
    return list(args.backend or ["onnxruntime"])


def backend_request(text: str) -> str:
    """A backend of the form NAME[:DEVICE][:PRECISION]."""
    try:
        return str(BackendRequest.parse(text))
    except PerceptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def known_backend(text: str) -> str:
    """The same, of a backend that is in the table; one that cannot run here is known all the same."""
    request = backend_request(text)
    try:
        backend_class(BackendRequest.parse(request).name)
    except PerceptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return request


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def whole_number(text: str) -> int:
    """A number of things: 0 or more."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def positive_number(text: str) -> int:
    """A number of things: 1 or more."""
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    return _above_zero(text, "number of seconds")


def hertz(text: str) -> float:
    """A rate above 0."""
    return _above_zero(text, "rate")


def _above_zero(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} above 0")
    return value
