"""Time of each layer, read from the traces that the libraries write (Chrome's trace event format, microseconds)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trt_perception.errors import BackendError
from trt_perception.statistics import Summary, summarize

Event = Mapping[str, Any]
# How both libraries' traces name one inference: ONNX Runtime by itself, torch and TensorRT because the backend says so.
_RUN = "model_run"


@dataclass(frozen=True)
class LayerTime:
    """One layer. kind: the operator; shape: of its inputs as the library tells, '' where it does not; time_ms: one
    value a run; share: of the mean of all layers together, 0 to 1.
    """

    name: str
    kind: str
    shape: str
    time_ms: Summary
    share: float


@dataclass(frozen=True)
class _Layer:
    name: str
    kind: str
    shape: str


def layer_times(backend: str, trace: Any, skip_runs: int) -> list[LayerTime]:
    """Every layer of a backend's trace, slowest first; the first skip_runs inferences (warm-up) are left out.

    Raises BackendError for a trace without layers, and for a backend whose traces are not known.
    """
    if backend not in _READERS:
        raise BackendError(f"profiles of {backend} cannot be read here; use one of {', '.join(_READERS)}")
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    complete = [event for event in events if event.get("ph") == "X"]
    runs = sorted((e for e in complete if e["name"] == _RUN), key=lambda e: float(e["ts"]))[skip_runs:]
    spent: dict[_Layer, list[float]] = defaultdict(list)
    for run in runs:
        inside = [event for event in complete if event is not run and _contains(run, event)]
        for layer, duration_us in _READERS[backend](sorted(inside, key=lambda e: (float(e["ts"]), -float(e["dur"])))):
            spent[layer].append(duration_us / 1e3)
    if not spent:
        raise BackendError(f"the profile of {backend} holds no layer in {len(runs)} runs")
    whole = sum(sum(times) for times in spent.values())
    layers = [LayerTime(k.name, k.kind, k.shape, summarize(v), sum(v) / whole) for k, v in spent.items()]
    return sorted(layers, key=lambda layer: -layer.share)


def _contains(outer: Event, inner: Event) -> bool:
    start, end = float(outer["ts"]), float(outer["ts"]) + float(outer["dur"])
    return start <= float(inner["ts"]) and float(inner["ts"]) + float(inner["dur"]) <= end


def _onnxruntime(events: Sequence[Event]) -> Iterable[tuple[_Layer, float]]:
    """Its kernels; the name of each node is the graph's own."""
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            shapes = [next(iter(kind.values())) for kind in arguments.get("input_type_shape", [])]
            name = re.sub(r"_kernel_time$", "", event["name"])
            yield _Layer(name, arguments.get("op_name", ""), _shape(shapes)), float(event["dur"])


def _torchscript(events: Sequence[Event]) -> Iterable[tuple[_Layer, float]]:
    """On a GPU its kernels, else the operators that stand in no other one, numbered as they come."""
    kernels = [event for event in events if event.get("cat") == "kernel"]
    operators = kernels or list(_outermost([event for event in events if event.get("cat") == "cpu_op"]))
    for number, event in enumerate(operators):
        kind = str(event["name"]).removeprefix("aten::")
        shapes = [dims for dims in event.get("args", {}).get("Input Dims", []) if dims]
        yield _Layer(f"{number:03d} {kind}", kind, _shape(shapes)), float(event["dur"])


def _tensorrt(events: Sequence[Event]) -> Iterable[tuple[_Layer, float]]:
    """What the backend wrote: TensorRT's own layers, which are several of the graph's nodes each."""
    for event in events:
        arguments = event.get("args", {})
        yield _Layer(event["name"], arguments.get("kind", ""), arguments.get("shape", "")), float(event["dur"])


def _outermost(events: Sequence[Event]) -> Iterable[Event]:
    """events: earliest first. The module's own `forward` is around all of them."""
    last: Event | None = None
    for event in events:
        if event["name"] != "forward" and (last is None or not _contains(last, event)):
            last = event
            yield event


def _shape(shapes: Sequence[Any]) -> str:
    return " ".join("x".join(map(str, dims)) for dims in shapes if dims)


_READERS: dict[str, Callable[[Sequence[Event]], Iterable[tuple[_Layer, float]]]] = {
    "onnxruntime": _onnxruntime,
    "torchscript": _torchscript,
    "tensorrt": _tensorrt,
}
