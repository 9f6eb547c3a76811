"""`trt-perception build-engine`: from ONNX to a TensorRT engine, with trtexec's options."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trt_perception.backends.tensorrt_runtime.trt_logger import LOG as TENSORRT_LOG
from trt_perception.cli.options import add_trust_options, fraction, positive_number, trust, whole_number
from trt_perception.engine.auto_precision import build_fastest
from trt_perception.engine.build import BuildResult, build_engine
from trt_perception.engine.options import (
    HARDWARE_LEVELS,
    INT8_METHODS,
    BuildOptions,
    parse_hardware_level,
    parse_layer_precisions,
)
from trt_perception.engine.progress import ProgressBar
from trt_perception.engine.shapes import ShapeOptions, parse_memory_pools, parse_shapes
from trt_perception.errors import ModelFileError, PerceptionError
from trt_perception.model_file import ONNX, ModelFile
from trt_perception.models import load_model

_EPILOG = """examples:
  trt-perception build-engine --model digits --fp16
  trt-perception build-engine --onnx=yolov8n.onnx --saveEngine=yolov8n.engine --fp16 --memPoolSize=workspace:2048
  trt-perception build-engine --model my.yaml --int8 --fp16 --calibImages=pictures
"""


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand and its options."""
    parser = subparsers.add_parser(
        "build-engine",
        help="build a TensorRT engine from an ONNX model",
        description="Builds a TensorRT engine; options mean what they mean for trtexec. Without --saveEngine the "
        "engine goes into the cache, where `--backend tensorrt:PRECISION` finds it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model (one of them)").add_mutually_exclusive_group(required=True)
    model.add_argument("--onnx", type=Path, metavar="FILE", help="the ONNX file")
    model.add_argument("--model", metavar="MODEL", help="a model file or name: its ONNX file, shape and preprocessing")
    output = parser.add_argument_group("output")
    output.add_argument("--saveEngine", type=Path, metavar="FILE", help="where to write it (default: the cache)")
    output.add_argument("--cache", default="", metavar="FOLDER", help="the cache (default: the user's)")
    output.add_argument("--force", action="store_true", help="build although a fitting engine is there")
    output.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    output.add_argument("--verbose", action="store_true", help="show everything that TensorRT says")
    _add_precision(parser.add_argument_group("precision"))
    _add_builder(parser.add_argument_group("builder"))
    add_trust_options(parser)
    parser.set_defaults(run=run)


def _add_precision(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fp16", action="store_true", help="allow FP16 beside FP32")
    group.add_argument("--int8", action="store_true", help="allow INT8 beside FP32 (with --fp16 beside FP16 too)")
    group.add_argument("--noTF32", action="store_true", help="full FP32, not TF32, where FP32 runs")
    group.add_argument("--calib", type=Path, metavar="FILE", help="INT8 calibration cache: read if there, else written")
    group.add_argument("--calibImages", type=Path, metavar="FOLDER", help="pictures of what the camera sees, for INT8")
    group.add_argument(
        "--calibCount", type=positive_number, default=200, metavar="N", help="how many of them (default 200)"
    )
    group.add_argument(
        "--int8Method",
        choices=INT8_METHODS,
        default="auto",
        help="TensorRT's calibrator (8.5 to 10), or Q/DQ nodes put in by ONNX Runtime (every version); default: Q/DQ, "
        "with --calib the calibrator",
    )
    group.add_argument(
        "--layerPrecisions",
        type=_argument(parse_layer_precisions),
        default={},
        metavar="LAYER:fp32,...",
        help="precision of single layers",
    )
    group.add_argument(
        "--noFP32Boxes",
        action="store_true",
        help="let FP16 and INT8 also compute boxes behind the last convolutions, where FP16 rounds to 1/4 px, and INT8 "
        "the last convolutions",
    )
    group.add_argument(
        "--precision",
        choices=("auto",),
        help="auto: build FP32, FP16 and INT8 and keep the fastest that loses no more than --maxMapDrop",
    )
    group.add_argument("--maxMapDrop", type=fraction, default=0.02, metavar="X", help="for auto: 0 to 1 (default 0.02)")


def _add_builder(group: argparse._ArgumentGroup) -> None:
    for option in ("--minShapes", "--optShapes", "--maxShapes"):
        group.add_argument(
            option, type=_argument(parse_shapes), default={}, metavar="INPUT:1x3x640x640,...", help="for free sizes"
        )
    group.add_argument("--workspace", type=positive_number, metavar="MiB", help="short for --memPoolSize=workspace:MiB")
    group.add_argument(
        "--memPoolSize",
        type=_argument(parse_memory_pools),
        default={},
        metavar="POOL:MiB,...",
        help="memory that TensorRT may use",
    )
    group.add_argument("--timingCacheFile", type=Path, metavar="FILE", help="kernel timings, for faster rebuilds")
    group.add_argument("--builderOptimizationLevel", type=int, metavar="0-5", help="higher takes longer (8.6+)")
    group.add_argument("--versionCompatible", action="store_true", help="runs on newer TensorRT too (8.6 and newer)")
    group.add_argument("--excludeLeanRuntime", action="store_true", help="leave the runtime out of such an engine")
    group.add_argument(
        "--hardwareCompatibilityLevel",
        type=parse_hardware_level,
        default="none",
        metavar="|".join(HARDWARE_LEVELS),
        help="runs on other GPUs too (8.6+)",
    )
    group.add_argument("--tacticSources", default="", metavar="-CUDNN,+CUBLAS", help="libraries that it may use")
    group.add_argument("--device", type=whole_number, default=0, metavar="N", help="GPU (default 0)")


def run(args: argparse.Namespace) -> int:
    """Builds and prints where the engine is; 0 done, 2 wrong arguments. Raises PerceptionError when it fails."""
    if args.verbose:
        TENSORRT_LOG.setLevel(logging.DEBUG)
    model = _model(args)
    onnx = args.onnx or _onnx_of(model)
    try:
        options = _options(args, onnx)
    except PerceptionError as error:
        print(f"trt-perception build-engine: {error}", file=sys.stderr)
        return 2
    if args.precision == "auto":
        assert model is not None
        result = build_fastest(options, model, args.maxMapDrop, during_build=_interruptible)
    else:
        spec = model.input if model is not None else None
        result = build_engine(options, spec, progress=ProgressBar(), during_build=_interruptible)
    _print(result, as_json=args.json)
    return 0


def _model(args: argparse.Namespace) -> ModelFile | None:
    """The model with its preprocessing; None for an ONNX file that does not tell, where no pictures are needed."""
    try:
        return load_model(args.model or args.onnx, trust(args))
    except ModelFileError:
        strict = args.require_checksum or args.model_root
        if strict or args.model is not None or args.calibImages is not None or args.precision is not None:
            raise
        return None


def _options(args: argparse.Namespace, onnx: Path) -> BuildOptions:
    pools = dict(args.memPoolSize)
    if args.workspace is not None:
        pools["workspace"] = args.workspace * 2**20
    return BuildOptions(
        onnx=onnx,
        save_engine=args.saveEngine,
        cache=args.cache,
        fp16=args.fp16,
        no_tf32=args.noTF32,
        int8=args.int8,
        calib=args.calib,
        calib_images=args.calibImages,
        calib_count=args.calibCount,
        int8_method=args.int8Method,
        shapes=ShapeOptions(args.minShapes, args.optShapes, args.maxShapes),
        memory_pools=pools,
        timing_cache_file=args.timingCacheFile,
        optimization_level=args.builderOptimizationLevel,
        version_compatible=args.versionCompatible,
        exclude_lean_runtime=args.excludeLeanRuntime,
        hardware_compatibility_level=args.hardwareCompatibilityLevel,
        layer_precisions=args.layerPrecisions,
        fp32_boxes=not args.noFP32Boxes,
        tactic_sources=args.tacticSources,
        device=args.device,
        force=args.force,
    )


def _argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser of the package as argparse wants it."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except PerceptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument


def _onnx_of(model: ModelFile | None) -> Path:
    assert model is not None
    artifact = model.artifact(ONNX)
    artifact.verify(ONNX)
    return artifact.path


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C end the process at once while TensorRT works: Python would hear of it only minutes later.

    Nothing is half-written then, since files are written whole after the build.
    """
    before: Any = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _print(result: BuildResult, *, as_json: bool) -> None:
    manifest = result.manifest
    if as_json:
        values = {
            "engine": str(result.engine),
            "built": result.built,
            "reasons": list(result.reasons),
            "manifest": json.loads(manifest.to_json()),
        }
        print(json.dumps(values, indent=2))
        return
    for note in manifest.notes:
        print(f"note: {note}", file=sys.stderr)
    key = manifest.key
    state = f"built in {manifest.build_s:.1f} s" if result.built else "already there"
    print(
        f"{result.engine}: {key.precision}, {manifest.engine_bytes / 2**20:.1f} MiB, {state} "
        f"(TensorRT {key.tensorrt_version}, {key.gpu_name})"
    )
