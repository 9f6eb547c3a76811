"""The one lifecycle of every backend: construct (cheap), open, infer many times, close.

The public methods here check the call and keep the state; the hooks `_open`, `_infer` and `_close`
of a backend do the work.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import numpy as np

from trt_perception.backend_request import BackendRequest
from trt_perception.backends.frame_path import FramePath, FramePlan
from trt_perception.backends.settings import NoSettings, settings_of
from trt_perception.errors import BackendError, BackendUnavailableError, DeviceMismatchError
from trt_perception.model_file import ModelFile
from trt_perception.types import AnyArray, Float32Array, TensorSpec

Opened = TypeVar("Opened", bound="Backend")


@dataclass(frozen=True)
class BackendInfo:
    """What really runs, read back from the library after loading.

    device: `cpu` or `cuda:N`; device_name: what the hardware calls itself; provider: the library's own name for
    its executor; precision: of the network as it runs, which ONNX Runtime does not tell: there what most of its weights
    are in, and fp32 for half precision on the processor; fallback_reason: why this is not what was asked for, None when
    it is; metadata: what the artifact says of itself; notes: settings that could not be honoured and why.
    """

    backend: str
    requested: str
    device: str
    device_name: str
    provider: str
    precision: str
    library: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]
    fallback_reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RawOutputs:
    """A network's outputs in the order of BackendInfo.outputs, and the time they took.

    The arrays belong to the backend and hold these values until its next infer() or close(). start_ns is a reading
    of time.monotonic_ns; the copies are None where no copy to or from a device of its own takes place.
    """

    arrays: tuple[AnyArray, ...]
    start_ns: int
    inference_ns: int
    host_to_device_ns: int | None = None
    device_to_host_ns: int | None = None


class Backend(abc.ABC):
    """Runs one artifact with one library on one device.

    Subclasses state: name; artifact_kind (the key in the model file's artifacts); devices and precisions that may
    be asked for, the first device being the default; Settings, a frozen dataclass of plain values with defaults, of
    which path_settings name files or folders.
    """

    name: ClassVar[str]
    artifact_kind: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[str, ...]]
    Settings: ClassVar[type[Any]] = NoSettings
    path_settings: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        request: BackendRequest,
        artifact: Path,
        *,
        allow_fallback: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Checks the request and the settings and loads nothing.

        allow_fallback: another device may run instead of the one asked for, and is then named in
        BackendInfo.fallback_reason; without it open() raises DeviceMismatchError. Raises BackendError for a device,
        a precision or a setting that this backend does not know.
        """
        self.request = request
        self.artifact = artifact
        self.allow_fallback = allow_fallback
        self.settings = settings_of(type(self), settings or {})
        # What it runs, where more than the artifact is known.
        self.model: ModelFile | None = None
        # A note may come from one thread while another closes.
        self._info_lock = threading.Lock()
        self._info: BackendInfo | None = None
        self._opened_as: BackendInfo | None = None
        self._stands_in: str | None = None
        # Shape and type of the last batch that was found to fit: nothing more is asked of the next one like it.
        self._fitting: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        device_kind = (request.device or self.devices[0]).split(":")[0]
        if device_kind not in self.devices:
            raise BackendError(f"{request}: {self.name} has no device {request.device!r}; use {_or(self.devices)}")
        if request.precision is not None and request.precision not in self.precisions:
            raise BackendError(
                f"{request}: {self.name} has no precision {request.precision!r}; use {_or(self.precisions)}"
            )

    @classmethod
    def choose_artifact(cls, kinds: Collection[str]) -> str:
        """Which of the artifacts that a model has this backend takes; the default is its artifact_kind."""
        return cls.artifact_kind

    @property
    def device(self) -> str:
        """The device asked for, the backend's default filled in."""
        return self.request.device or self.devices[0]

    @property
    def device_index(self) -> int:
        """N of `cuda:N`, 0 when no number was given."""
        _, _, index = self.device.partition(":")
        return int(index or 0)

    @property
    def info(self) -> BackendInfo:
        """What really runs; raises BackendError before open()."""
        if self._info is None:
            raise BackendError(f"{self.request} is not open; call open() first")
        return self._info

    @property
    def is_open(self) -> bool:
        """True between open() and close()."""
        return self._info is not None

    def open(self) -> None:
        """Loads library and artifact and finds out which device runs; a second call does nothing.

        Raises BackendUnavailableError (library, device or file missing), DeviceMismatchError (another device would
        run and allow_fallback is off) or BackendError (the library refuses the artifact). After an error nothing
        stays allocated and open() may be called again.
        """
        if self._info is not None:
            return
        if not self.artifact.is_file():
            raise BackendUnavailableError(f"{self.request}: the file {self.artifact} does not exist; check the model")
        try:
            info = self._open()
        except BaseException:
            self._close()
            raise
        self._opened_as = replace(info, notes=(*info.notes, *_batch_note(info.inputs)))
        self.explain_fallback(self._stands_in)

    def explain_fallback(self, reason: str | None) -> None:
        """Tells that this backend stands in for another, None that it does not; the reason goes into every report."""
        self._stands_in = reason
        with self._info_lock:
            if self._opened_as is not None:
                reasons = [text for text in (reason, self._opened_as.fallback_reason) if text]
                # What was noted since it was opened stays.
                self._info = replace(self._info or self._opened_as, fallback_reason="; ".join(reasons) or None)

    def _add_notes(self, *notes: str) -> None:
        """What turns out after _open; an open backend's info has it from then on."""
        with self._info_lock:
            if self._info is not None:
                self._info = replace(self._info, notes=(*self._info.notes, *notes))

    def infer(self, batch: AnyArray) -> RawOutputs:
        """Runs the network on one NCHW tensor of the type and shape of the first input.

        Fewer pictures than `least_batch` are enough: zeros fill it up, and the outputs' first axis is cut to the
        pictures given. Raises BackendError when the tensor does not fit, when the backend is not open, or
        when the run fails; the backend stays open. A tensor that is not contiguous is copied first.
        """
        if self._fitting != (batch.shape, batch.dtype):
            spec = self.info.inputs[0]
            places = self.least_batch
            if 1 <= len(batch) < places and _fits(batch.shape[1:], spec.shape[1:]):
                return self._infer_filled_up(batch, places)
            if batch.dtype != np.dtype(spec.dtype) or not _fits(batch.shape, spec.shape):
                got = f"got a {batch.dtype} tensor of shape {tuple(batch.shape)}"
                raise BackendError(f"{self.request}: {got}; the network takes {spec}")
            self._fitting = batch.shape, batch.dtype
        return self._infer(np.ascontiguousarray(batch))

    def _infer_filled_up(self, batch: AnyArray, places: int) -> RawOutputs:
        """infer() on a network that takes more pictures than there are."""
        count = len(batch)
        whole = np.zeros((places, *batch.shape[1:]), batch.dtype)
        whole[:count] = batch
        raw = self.infer(whole)
        # An output without a batch axis stays as it is.
        return replace(raw, arrays=tuple(a[:count] if a.shape[:1] == (places,) else a for a in raw.arrays))

    def input_buffer(self, shape: tuple[int, ...]) -> Float32Array | None:
        """Memory for the input, float32 of that shape, which infer() takes without a copy when it is given just that.

        None where the backend has no such memory. It stays valid memory after close().
        """
        return None

    @property
    def max_batch(self) -> int | None:
        """How many pictures infer() takes at once, None for any number; raises BackendError before open()."""
        return self.info.inputs[0].shape[0]

    @property
    def least_batch(self) -> int:
        """How many pictures the network takes at least; 0 for any number."""
        return _fixed_batch(self.info.inputs)

    def frame_path(self, plan: FramePlan) -> FramePath | str | None:
        """The short way for whole frames on this open backend's device, valid until close(); hold the backend as long.

        A reason where the device could do it, but not here or not for this plan: it goes into the notes. None where
        the processor runs the network, so that there is nothing to shorten.
        """
        return None

    def close(self) -> None:
        """Frees everything; a second call does nothing, and open() may be called again."""
        with self._info_lock:
            self._info = self._opened_as = self._fitting = None
        self._close()

    def __enter__(self: Opened) -> Opened:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_or_note_fallback(self, actual: str, reason: str) -> str:
        """Raises DeviceMismatchError, or returns the reason to report where a fallback was allowed."""
        message = f"{self.request}: runs on {actual} instead of {self.device}: {reason}"
        if not self.allow_fallback:
            raise DeviceMismatchError(f"{message}; mend that, ask for {self.name}:{actual}, or set allow_fallback")
        return message

    @abc.abstractmethod
    def _open(self) -> BackendInfo: ...

    @abc.abstractmethod
    def _infer(self, batch: AnyArray) -> RawOutputs: ...

    @abc.abstractmethod
    def _close(self) -> None:
        """Also called after a failed _open, so every resource may still be missing."""


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w is None or w == n for n, w in zip(shape, wanted, strict=True))


def _fixed_batch(inputs: Sequence[TensorSpec]) -> int:
    """The number of pictures that the first input takes, 0 where that is free or the input has no axes."""
    return (inputs[0].shape[0] or 0) if inputs and inputs[0].shape else 0


def _batch_note(inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """What a batch that is fixed at several pictures costs; nothing for others."""
    places = _fixed_batch(inputs)
    if places < 2:
        return ()
    return (
        f"the network's batch is fixed at {places}: places without a picture are filled with zeros and take as long; "
        "export it with a batch of 1 or a free one",
    )


def _or(words: Sequence[str]) -> str:
    return " or ".join(words) if words else "none (leave it out)"
