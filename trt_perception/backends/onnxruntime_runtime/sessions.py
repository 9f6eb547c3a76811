"""Opens an ONNX file with one provider, as often as somebody needs a session of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.onnxruntime_runtime.library import first_line, version_of
from trt_perception.backends.onnxruntime_runtime.options import (
    AUTO,
    CPU,
    CUDA,
    CudaChoice,
    OnnxRuntimeSettings,
    prefers_nhwc,
    provider_options,
    session_options,
)
from trt_perception.errors import BackendError
from trt_perception.onnx_nodes import operators

# An onnxruntime.InferenceSession or RunOptions; onnxruntime itself is imported in library.py alone.
Session: TypeAlias = Any
RunOptions: TypeAlias = Any

# The first whose runs can be told, one by one, not to make a graph of themselves.
_GRAPHS_SINCE = (1, 18)
# They give as many numbers as they find: ONNX Runtime asks the GPU how many, which a recording answers with nothing
# (NonZero in 1.31 goes on with zero and raises no error). What runs on the processor, and what runs again and again
# (If, Loop, Scan), it refuses itself.
_COUNTING = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
_LOOPING = frozenset({"If", "Loop", "Scan"})
# include/onnxruntime/core/session/onnxruntime_run_options_config_keys.h
_DO_NOT_WAIT = ("disable_synchronize_execution_providers", "1")
_NO_GRAPH_OF_ITS_OWN = ("gpu_graph_id", "-1")
_FATAL = 4


class Sessions:
    """What every session of a backend has in common.

    device: where its tensors lie, as ONNX Runtime calls it. on_stream: runs go to the stream that a session was opened
    with. no_graph_reason: why runs cannot be recorded as part of a CUDA graph, None as far as is known; whoever finds
    out more writes it here.
    """

    def __init__(
        self,
        ort: Any,
        artifact: Path,
        request: BackendRequest,
        settings: OnnxRuntimeSettings,
        providers: Sequence[str],
        device_index: int,
    ) -> None:
        """providers: the one that is to run, and those that take over the nodes it cannot run."""
        self._ort, self._artifact, self._request, self._settings = ort, artifact, request, settings
        self._providers, self.device_index = providers, device_index
        self.device = "cpu" if providers[0] == CPU else "cuda"
        self.on_stream = providers[0] == CUDA
        self._nhwc = self.on_stream and prefers_nhwc(settings, version_of(ort), device_index)
        self.no_graph_reason = self._no_graph_from_the_start()

    def open(self, stream: int | None = None) -> Session:
        """A session. stream: the CUstream on which the CUDA provider works, None for its own; other providers have
        their own. Raises BackendError when ONNX Runtime refuses the file.
        """
        if stream is None or self.no_graph_reason is not None:
            return self._open(stream if self.on_stream else None, graph=False)
        try:
            return self._open(stream, graph=True)
        except BackendError as error:
            reason = first_line(error.__cause__ or error)
        if self._nhwc and self._settings.prefer_nhwc == AUTO:
            # For channels last ONNX Runtime rewrites a network that computes with its own sizes so that parts of it
            # run on the processor. A graph gains more than the layout.
            with suppress(BackendError):
                session = self._open(stream, graph=True, nhwc=False)
                self._nhwc = False
                return session
        session = self._open(stream, graph=False)
        self.no_graph_reason = reason
        return session

    @functools.cached_property
    def operators_of_any_size(self) -> tuple[str, ...]:
        """Those of the network's whose outputs are as large as their inputs' values make them."""
        return tuple(sorted(operators(self._artifact.read_bytes()) & (_COUNTING | _LOOPING)))

    def run_options(self, *, wait: bool) -> RunOptions:
        """wait: a run returns when the device has done it.

        What does not wait is for recording alone: a session keeps page-locked memory of runs that were not waited for
        until one that is, and the graph reads it. So with one session it is always the one or always the other.
        """
        options = self._ort.RunOptions()
        options.log_severity_level = _FATAL  # what fails raises
        for name, value in (_NO_GRAPH_OF_ITS_OWN,) if wait else (_NO_GRAPH_OF_ITS_OWN, _DO_NOT_WAIT):
            options.add_run_config_entry(name, value)
        return options

    def _open(self, stream: int | None, *, graph: bool, nhwc: bool | None = None) -> Session:
        ort, request, settings = self._ort, self._request, self._settings
        options = session_options(ort, settings, request)
        how = CudaChoice(self.device_index, self._nhwc if nhwc is None else nhwc, stream, graph)
        providers = [(name, provider_options(name, settings, request, how)) for name in self._providers]
        try:
            return ort.InferenceSession(str(self._artifact), sess_options=options, providers=providers)
        except Exception as error:  # the library's exceptions derive from nothing narrower
            raise BackendError(
                f"onnxruntime {ort.__version__} cannot load {self._artifact}: {first_line(error)}; check the file "
                "with `trt-perception inspect` or export it again with an opset that this version knows"
            ) from error

    def _no_graph_from_the_start(self) -> str | None:
        if not self.on_stream:
            return f"{self._providers[0]} launches by itself"
        if not self._settings.cuda_graph:
            return "switched off by the setting cuda_graph"
        if version_of(self._ort) < _GRAPHS_SINCE:
            needed = ".".join(map(str, _GRAPHS_SINCE))
            return f"it needs onnxruntime {needed}, this is {self._ort.__version__}"
        counting = sorted(_COUNTING.intersection(self.operators_of_any_size))
        if counting:
            return f"the network counts while it runs ({', '.join(counting)})"
        return None
