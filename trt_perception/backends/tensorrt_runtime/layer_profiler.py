"""TensorRT's time of every layer as a trace in Chrome's format, with what the engine inspector says of each."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class LayerProfiler:
    """Collects what the context reports while a run is open; one an execution context."""

    def __init__(self, library: Any, engine: Any, context: Any) -> None:
        """library: the TensorRT module. From now on the context reports every layer of every inference."""
        self._layers = _described_layers(library, engine)
        self._events: list[dict[str, Any]] = []
        self._at_us: float | None = None
        self._end_us = 0.0
        base: Any = library.IProfiler

        class Reporter(base):
            def __init__(reporter) -> None:
                base.__init__(reporter)

            def report_layer_time(reporter, layer_name: str, ms: float) -> None:
                self._add(layer_name, ms)

        # The context does not keep it alive.
        self._reporter = Reporter()
        context.profiler = self._reporter

    def begin_run(self) -> None:
        """Layers that are reported from here to end_run() belong to one inference."""
        self._at_us = self._start_us = max(time.monotonic_ns() / 1e3, self._end_us)

    def end_run(self) -> None:
        """The layers stand one behind the other from the run's beginning on: TensorRT says how long, not when."""
        assert self._at_us is not None
        self._event("model_run", "run", self._start_us, self._at_us - self._start_us, {})
        self._end_us, self._at_us = self._at_us, None

    def write(self, path: Path) -> None:
        """Writes the trace; raises OSError."""
        path.write_text(json.dumps({"traceEvents": self._events}), encoding="utf-8")

    def _add(self, name: str, duration_ms: float) -> None:
        if self._at_us is not None:
            self._event(name, "layer", self._at_us, duration_ms * 1e3, self._layers.get(name, {}))
            self._at_us += duration_ms * 1e3

    def _event(self, name: str, category: str, start_us: float, duration_us: float, more: dict[str, str]) -> None:
        event = {"name": name, "cat": category, "ph": "X", "ts": start_us, "dur": duration_us, "pid": 0, "tid": 0}
        self._events.append({**event, "args": more})


def _described_layers(library: Any, engine: Any) -> dict[str, dict[str, str]]:
    """Name → kind and the inputs' shapes; empty of engines that were built without that information."""
    # 8.6 leaves control characters inside its strings.
    text = engine.create_engine_inspector().get_engine_information(library.LayerInformationFormat.JSON)
    found: dict[str, dict[str, str]] = {}
    for layer in json.loads(text, strict=False).get("Layers", []):
        if isinstance(layer, dict):
            inputs = [entry.get("Dimensions", []) for entry in layer.get("Inputs", [])]
            shape = " ".join("x".join(map(str, dims)) for dims in inputs if dims)
            found[layer["Name"]] = {"kind": str(layer.get("LayerType", "")), "shape": shape}
    return found
