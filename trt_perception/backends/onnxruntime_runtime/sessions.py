"""Opens an ONNX file with one provider, as often as somebody needs a session of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.onnxruntime_runtime.library import first_line, version_of
from trt_perception.backends.onnxruntime_runtime.options import (
    CUDA,
    OnnxRuntimeSettings,
    provider_options,
    session_options,
)
from trt_perception.errors import BackendError

# The first whose runs can be told, one by one, not to make a graph of themselves.
_GRAPHS_SINCE = (1, 18)
# include/onnxruntime/core/session/onnxruntime_run_options_config_keys.h
_DO_NOT_WAIT = ("disable_synchronize_execution_providers", "1")
_NO_GRAPH_OF_ITS_OWN = ("gpu_graph_id", "-1")


class Sessions:
    """What every session of a backend has in common.

    no_graph_reason: why their runs cannot be recorded as part of a CUDA graph, None when they can; of sessions on a
    stream that were opened.
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
        self._providers, self._device_index = providers, device_index
        self.no_graph_reason = self._no_graph_from_the_start()

    def open(self, stream: int | None = None, axes: Mapping[str, int] | None = None) -> Any:
        """A session; stream: the CUstream on which the CUDA provider works, None for its own; axes: session_options.

        Raises BackendError when ONNX Runtime refuses the file.
        """
        if stream is None or self.no_graph_reason is not None:
            return self._open(stream, axes, graph=False)
        try:
            return self._open(stream, axes, graph=True)
        except BackendError as error:
            session = self._open(stream, axes, graph=False)
            self.no_graph_reason = first_line(error.__cause__ or error)
            return session

    def run_options(self, *, wait: bool) -> Any:
        """wait: a run returns when the device has done it."""
        options = self._ort.RunOptions()
        for name, value in (_NO_GRAPH_OF_ITS_OWN,) if wait else (_NO_GRAPH_OF_ITS_OWN, _DO_NOT_WAIT):
            options.add_run_config_entry(name, value)
        return options

    def _open(self, stream: int | None, axes: Mapping[str, int] | None, *, graph: bool) -> Any:
        ort, request, settings = self._ort, self._request, self._settings
        options = session_options(ort, settings, request, axes)
        providers = [
            (name, provider_options(name, self._device_index, settings, request, stream=stream, graph=graph))
            for name in self._providers
        ]
        try:
            return ort.InferenceSession(str(self._artifact), sess_options=options, providers=providers)
        except Exception as error:  # the library's exceptions derive from nothing narrower
            raise BackendError(
                f"onnxruntime {ort.__version__} cannot load {self._artifact}: {first_line(error)}; check the file "
                "with `trt-perception inspect` or export it again with an opset that this version knows"
            ) from error

    def _no_graph_from_the_start(self) -> str | None:
        if self._providers[0] != CUDA:
            return f"{self._providers[0]} launches by itself"
        if not self._settings.cuda_graph:
            return "switched off by the setting cuda_graph"
        if version_of(self._ort) < _GRAPHS_SINCE:
            needed = ".".join(map(str, _GRAPHS_SINCE))
            return f"it needs onnxruntime {needed}, this is {self._ort.__version__}"
        return None
