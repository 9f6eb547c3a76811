"""`trt-perception detect`: detections in a picture, a folder or a video."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2

from trt_perception.annotate import annotate
from trt_perception.cli.options import add_model_options, backends, fraction, positive_number, trust, whole_number
from trt_perception.cli.progress import progress
from trt_perception.detector import Detector
from trt_perception.errors import ImageError
from trt_perception.models import load_model
from trt_perception.sources import open_source
from trt_perception.statistics import summarize
from trt_perception.types import FrameResult, as_image

log = logging.getLogger(__name__)


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("detect", help="detect objects in pictures or a video", description=__doc__)
    parser.add_argument("source", help="a picture, a folder of pictures, a video, a webcam's number, or `scene`")
    add_model_options(parser)
    parser.add_argument("--score-threshold", type=fraction, help="0-1 (default: the model file's)")
    parser.add_argument("--iou-threshold", type=fraction, help="0-1 (default: the model file's)")
    parser.add_argument(
        "--max-detections", type=positive_number, metavar="N", help="boxes a picture at most, best first"
    )
    parser.add_argument("--class-agnostic", action="store_true", help="boxes suppress those of other classes too")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="only these (after the source's name)")
    parser.add_argument(
        "--limit", type=whole_number, default=0, metavar="N", help="stop after N pictures (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write annotated pictures there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints one line a picture, or the JSON document; stage times go to standard error at the end."""
    model = load_model(args.model, trust(args))
    given = {
        "score": args.score_threshold,
        "iou": args.iou_threshold,
        "max_detections": args.max_detections,
        "class_agnostic": args.class_agnostic or None,
        "classes": tuple(args.classes) if args.classes else None,
    }
    thresholds = replace(model.thresholds, **{k: v for k, v in given.items() if v is not None})
    if args.save is not None:
        _make_folder(args.save)
    images: list[dict[str, Any]] = []
    unreadable: list[ImageError] = []
    totals_ms: list[float] = []
    with (
        open_source(args.source, on_unreadable=unreadable.append) as source,
        Detector.open(model, backends(args), allow_fallback=args.allow_fallback, thresholds=thresholds) as detector,
    ):
        info = detector.info
        log.info("%s on %s, %s (%s), %s", model.name, info.backend, info.device, info.device_name, info.precision)
        log.info("head %s: %s", detector.recognised.name, detector.recognised.reason)
        for note in info.notes:
            log.info("%s", note)
        if info.fallback_reason is not None:
            log.warning("fallback: %s", info.fallback_reason)
        detector.warm_up()
        count = min(filter(None, (source.count, args.limit)), default=None)
        # Ctrl-C ends a source that has no end of its own: what was found until then is told.
        with suppress(KeyboardInterrupt):
            for index, (name, pixels) in enumerate(progress(source.pictures, count, "detecting")):
                result = detector.detect(pixels)
                totals_ms.append(result.times.total_ns / 1e6)
                entry = _entry(name, pixels.shape[1], pixels.shape[0], result, detector)
                if args.json:
                    images.append(entry)
                else:
                    print(_line(entry))
                if args.save is not None:
                    _save(args.save, name, index, annotate(as_image(pixels), result.detections, model))
                if args.limit and index + 1 >= args.limit:
                    break
    if args.json:
        backend = {k: v for k, v in asdict(info).items() if k not in ("inputs", "outputs", "metadata")}
        head = asdict(detector.recognised)
        document = {"model": model.name, "head": head, "backend": backend, "images": images}
        json.dump({**document, "unreadable": [str(error) for error in unreadable]}, sys.stdout, indent=1)
        print()
    if totals_ms:
        s = summarize(totals_ms)
        log.info("%d pictures, total p50 %.2f ms, p99 %.2f ms, max %.2f ms", s.count, s.p50, s.p99, s.max)
    for error in unreadable:
        log.error("%s", error)
    return 1 if unreadable else 0


def _entry(name: str, width: int, height: int, result: FrameResult, detector: Detector) -> dict[str, Any]:
    found = result.detections
    return {
        "name": name,
        "width_px": width,
        "height_px": height,
        "times_ms": {stage: round(value, 4) for stage, value in result.times.durations_ms().items()},
        "detections": [
            {
                "class_id": int(class_id),
                "class_name": detector.model.label(int(class_id)),
                "score": round(float(score), 6),
                "box_xyxy_px": [round(float(v), 3) for v in box],
                "other_classes": [
                    {"class_id": int(i), "class_name": detector.model.label(int(i)), "score": round(float(s), 6)}
                    for i, s in zip(other_ids, other_scores, strict=True)
                ],
            }
            for box, score, class_id, other_ids, other_scores in zip(
                found.boxes_xyxy,
                found.scores,
                found.class_ids,
                found.other_class_ids,
                found.other_scores,
                strict=True,
            )
        ],
    }


def _line(entry: dict[str, Any]) -> str:
    found = ", ".join(
        f"{d['class_name']} {d['score']:.2f} [{' '.join(f'{v:.0f}' for v in d['box_xyxy_px'])}]"
        for d in entry["detections"]
    )
    return f"{entry['name']}: {found or 'nothing'} ({sum(entry['times_ms'].values()):.1f} ms)"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {folder} ({error.strerror}); give --save another one") from error


def _save(folder: Path, name: str, index: int, picture: Any) -> None:
    target = folder / f"{index:06d}_{Path(name).stem.replace('#', '_').replace(' ', '_')}.png"
    good, data = cv2.imencode(".png", picture)
    if not good:
        raise ImageError(f"the picture for {target} could not be encoded as PNG")
    try:
        target.write_bytes(data.tobytes())
    except OSError as error:
        raise ImageError(f"{target} cannot be written ({error.strerror}); give --save another folder") from error
