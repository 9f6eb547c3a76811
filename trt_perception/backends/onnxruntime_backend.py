"""ONNX Runtime: on the CPU, or on an NVIDIA GPU through its CUDA or its TensorRT provider."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from trt_perception.backends.base import Backend, BackendInfo, RawOutputs
from trt_perception.backends.cuda_frames.path import CudaFramePath
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.frame_path import FramePath, FramePlan
from trt_perception.backends.hardware import cpu_name
from trt_perception.backends.onnxruntime_runtime.bound_session import BoundSession
from trt_perception.backends.onnxruntime_runtime.library import (
    DTYPES,
    first_line,
    load_cuda_libraries,
    onnxruntime_part,
    spec_of,
)
from trt_perception.backends.onnxruntime_runtime.network import OnnxRuntimeNetwork
from trt_perception.backends.onnxruntime_runtime.options import CPU, CUDA, TENSORRT, OnnxRuntimeSettings
from trt_perception.backends.onnxruntime_runtime.sessions import Session, Sessions
from trt_perception.errors import BackendError, ModelFileError
from trt_perception.external_data import external_files
from trt_perception.onnx_precision import onnx_precision
from trt_perception.types import AnyArray

# Device → the provider that runs there, and those that take over the nodes it cannot run.
_PROVIDERS = {"cpu": (CPU,), "cuda": (CUDA,), "tensorrt": (TENSORRT, CUDA)}
_DEVICE_OF = {providers[0]: device for device, providers in _PROVIDERS.items()}
_REMEDIES = {
    CUDA: "its libraries (CUDA and cuDNN of the versions that this onnxruntime was built for) are missing or do not "
    "match the driver",
    TENSORRT: "its libraries (libnvinfer of the TensorRT version that this onnxruntime was built for, CUDA and cuDNN) "
    "are missing or do not match the driver: `pip install tensorrt` and put its folder into LD_LIBRARY_PATH",
}


class OnnxRuntimeBackend(Backend):
    """Runs an ONNX file; the provider that really loaded is read back from the session."""

    name: ClassVar[str] = "onnxruntime"
    artifact_kind: ClassVar[str] = "onnx"
    devices: ClassVar[tuple[str, ...]] = tuple(_PROVIDERS)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    Settings = OnnxRuntimeSettings
    path_settings: ClassVar[tuple[str, ...]] = ("tensorrt_engine_cache", "profile_to")

    _session: Session | None = None
    _bound: BoundSession | None = None
    _closing: ExitStack | None = None

    def _open(self) -> BackendInfo:
        ort = onnxruntime_part()
        self._turn = threading.RLock()
        self._closing = ExitStack()
        self._paths: dict[FramePlan, CudaFramePath] = {}
        kind = self.device.split(":")[0]
        if self.request.precision is not None and kind != "tensorrt":
            raise BackendError(
                f"{self.request}: on {kind} the precision is the model's own; leave it out, or ask for "
                f"{self.name}:tensorrt:{self.request.precision}"
            )
        provider, *helpers = _PROVIDERS[kind]
        if provider != CPU:
            load_cuda_libraries(ort)
        available = ort.get_available_providers()
        fallback_reason: str | None = None
        if provider not in available:
            fallback_reason = self._refuse_or_note_fallback(
                "cpu",
                f"this onnxruntime was built without {provider} (it has {', '.join(available)}); "
                "install onnxruntime-gpu in place of onnxruntime",
            )
            provider, helpers = CPU, []
        session = self._load(ort, provider, [helper for helper in helpers if helper in available])
        actual = session.get_providers()[0]
        if actual != provider:
            fallback_reason = self._refuse_or_note_fallback(
                _DEVICE_OF.get(actual, "cpu"),
                f"{provider} did not load and ONNX Runtime took {actual}; {_REMEDIES[provider]}",
            )
            if actual != CPU:
                # With the options and the ways of the one that runs, not of the one that was wanted.
                session = self._load(ort, actual, [])
        self._session = session
        on_cpu = actual == CPU
        device = "cpu" if on_cpu else f"cuda:{self.device_index}"
        try:
            inputs = tuple(spec_of(entry) for entry in session.get_inputs())
            outputs = tuple(spec_of(entry) for entry in session.get_outputs())
            metadata = dict(session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:
            raise BackendError(f"{self.artifact} holds names that are not UTF-8 ({error}); export it again") from error
        if len(inputs) != 1 or inputs[0].dtype not in DTYPES.values():
            raise BackendError(
                f"{self.artifact} has {len(inputs)} inputs ({'; '.join(map(str, inputs))}); a detector's network "
                f"takes one image tensor of type {', '.join(DTYPES.values())}"
            )
        self._input_name = inputs[0].name
        self._output_names = [spec.name for spec in outputs]
        # What another device computes is copied to wherever ONNX Runtime wants it.
        self._bound = BoundSession(session, outputs) if on_cpu else None
        return BackendInfo(
            backend=self.name,
            requested=str(self.request),
            device=device,
            device_name=cpu_name() if on_cpu else _cuda_device_name(self.device_index),
            provider=actual,
            precision=self._precision(actual, inputs[0].dtype),
            library=f"onnxruntime {ort.__version__}",
            inputs=inputs,
            outputs=outputs,
            metadata=metadata,
            fallback_reason=fallback_reason,
        )

    def _load(self, ort: Any, provider: str, helpers: list[str]) -> Session:
        try:
            external_files(self.artifact)
            providers = [provider, *helpers]
            self._sessions = Sessions(ort, self.artifact, self.request, self.settings, providers, self.device_index)
        except ModelFileError as error:
            raise BackendError(f"{self.request}: {error}") from error
        return self._sessions.open()

    def _precision(self, provider: str, input_dtype: str) -> str:
        """TensorRT's provider converts where it was asked to; ONNX Runtime does not tell what the others compute in."""
        if provider == TENSORRT and self.request.precision is not None:
            return self.request.precision
        try:
            # Without weights everything is of the input's type.
            precision = onnx_precision(self.artifact) or {"float16": "fp16"}.get(input_dtype, "fp32")
        except ModelFileError as error:
            raise BackendError(f"{self.request}: {error}") from error
        # Its kernels for the processor are for float32 (but for a few on ARM), and it casts around them.
        return "fp32" if provider == CPU and precision in ("fp16", "bf16") else precision

    def frame_path(self, plan: FramePlan) -> FramePath | str | None:
        """See Backend.frame_path: kernels before and after the network, whose tensors stay on the device."""
        if self.info.device == "cpu":
            return None
        settings: OnnxRuntimeSettings = self.settings
        if not settings.device_path:
            return "switched off by the setting device_path"
        if settings.profile_to:
            return "a profile is taken, which is of the network's nodes alone"
        with self._turn:
            if self._closing is None:
                raise BackendError(f"{self.request} was closed by another thread")
            if plan in self._paths:
                return self._paths[plan]
            with ExitStack() as undo:
                try:
                    frames = FrameSession(self.device_index)
                    # The sessions go before the stream on which they work.
                    undo.callback(frames.close)
                    network = OnnxRuntimeNetwork(self._sessions, self._session, plan.input)
                    undo.callback(network.close)
                    path = CudaFramePath(
                        network, frames, plan, self._turn, tell=self._add_notes, streams=settings.streams
                    )
                    undo.callback(path.close)
                except BackendError as error:
                    return str(error)
                self._closing.push(undo.pop_all())
            self._paths[plan] = path
        return path

    def _infer(self, batch: AnyArray) -> RawOutputs:
        assert self._session is not None
        start_ns = time.monotonic_ns()
        try:
            arrays = self._run_unbound(batch) if self._bound is None else self._bound.run(batch)
        except Exception as error:  # the library's exceptions derive from nothing narrower
            raise BackendError(f"{self.request} failed while running {self.artifact}: {first_line(error)}") from error
        inference_ns = time.monotonic_ns() - start_ns
        return RawOutputs(arrays, start_ns, inference_ns)

    def _run_unbound(self, batch: AnyArray) -> tuple[AnyArray, ...]:
        with self._turn:
            if self._session is None:
                raise BackendError("the backend was closed by another thread")
            outputs = self._session.run(self._output_names, {self._input_name: batch})
            return tuple(np.asarray(output) for output in outputs)

    def _close(self) -> None:
        if self._closing is None:
            return
        with self._turn:
            self._paths.clear()
            self._closing.close()
            self._closing = self._bound = None
            session, self._session = self._session, None
            if session is not None and self.settings.profile_to:
                self._write_profile(session)

    def _write_profile(self, session: Any) -> None:
        # The library adds the date to the name.
        written = Path(session.end_profiling())
        try:
            written.replace(self.settings.profile_to)
        except OSError as error:
            raise BackendError(
                f"{self.request}: the profile cannot be written to {self.settings.profile_to} ({error.strerror})"
            ) from error


def _cuda_device_name(index: int) -> str:
    """The driver's own list of GPUs, in the order of nvidia-smi."""
    from trt_perception.backends.nvidia_smi import gpu_name

    return gpu_name(index)
