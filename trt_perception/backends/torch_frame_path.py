"""From a camera's bytes to boxes on torch's device: only bytes go up, and only boxes that count come down."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from trt_perception.backends.frame_path import FramePathResult, FramePlan, RawFrameOutputs, Survivors
from trt_perception.backends.frame_sampling import SOURCE_LAYOUTS, sampling_tables
from trt_perception.backends.torch_candidates import choose_candidates, class_count, read_candidates
from trt_perception.backends.torch_frames import FrameSampler
from trt_perception.backends.torch_launcher import Launcher, Launches
from trt_perception.class_choice import ClassChoice
from trt_perception.errors import BackendError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import Int64Array, StageTimes, Uint8Array

# A torch.Tensor; torch itself is not imported here.
Tensor: TypeAlias = Any
Network: TypeAlias = Callable[[Tensor], list[Tensor]]

# Combinations of frame sizes that stay prepared.
_PREPARED = 8
_MAX_BATCH = 8
# One half of a larger frame is on its way up while the processor copies the other.
_LARGE_BYTES = 500_000


@dataclass(frozen=True)
class _Geometry:
    """What the sampling of a frame depends on."""

    encoding: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some of a frame's rows on their way.

    rows: which; staged: the array over on_host's memory; on_host, on_device: uint8 (rows, bytes of a row).
    """

    rows: Int64Array
    staged: Uint8Array
    on_host: Tensor
    on_device: Tensor

    def send(self, frame: Uint8Array) -> None:
        """Copies them to page-locked memory and starts the upload."""
        # Any mode but "raise", which copies twice.
        np.take(frame, self.rows, axis=0, out=self.staged, mode="clip")
        self.on_device.copy_(self.on_host, non_blocking=True)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Frames of certain geometries: the pieces of each, and what samples all of them."""

    pieces: tuple[tuple[_Piece, ...], ...]
    sample: Launches


@dataclass(frozen=True, eq=False)
class _Batch:
    """What depends on the number of frames alone. chosen: None where the head decodes on the host."""

    tensor: Tensor
    outputs: list[Tensor]
    infer: Launches
    chosen: Tensor | None
    chosen_on_host: Tensor | None
    choose: Launches


class TorchFramePath:
    """A FramePath (see backends/frame_path.py) over torch's operators. Memory and graphs are made when first needed."""

    encodings = frozenset(SOURCE_LAYOUTS)

    def __init__(self, torch: Any, launcher: Launcher, network: Network, plan: FramePlan, dtype: Any) -> None:
        """network: from the input tensor, of that dtype and on the launcher's device, to its outputs.

        Runs it on one frame and on two, so that what does not work shows now; raises torch's errors.
        """
        self._torch, self._launcher, self._network = torch, launcher, network
        self._plan, self._dtype = plan, dtype
        spec = plan.input
        # As in the preprocessor.
        std = np.asarray(spec.std, np.float32)
        self._factor, self._shift = (
            torch.from_numpy(values[: spec.channels]).to(launcher.device).reshape(-1, 1, 1)
            for values in (np.float32(spec.scale) / std, -np.asarray(spec.mean, np.float32) / std)
        )
        self._border = (spec.pad_value * self._factor + self._shift).to(dtype)
        self._prepared: OrderedDict[tuple[_Geometry, ...], _Prepared] = OrderedDict()
        self._batches: dict[int, _Batch] = {}
        self._least_scores: Tensor | None = None
        self._choice: ClassChoice | None = None
        self._drawn: tuple[_Geometry, ...] = ()
        with torch.inference_mode(), launcher.turn():
            self._batch(1)
            self.max_batch = _MAX_BATCH if self._takes_batches() else 1

    def run(self, frames: Sequence[CameraFrame], choice: ClassChoice) -> FramePathResult:
        """See FramePath.run."""
        if not 1 <= len(frames) <= self.max_batch:
            raise BackendError(f"got {len(frames)} frames; this network takes 1 to {self.max_batch} at a time")
        try:
            with self._torch.inference_mode(), self._launcher.turn():
                return self._run(frames, choice)
        except RuntimeError as error:
            what = next(iter(str(error).splitlines()), type(error).__name__)
            raise BackendError(f"the device failed on {len(frames)} frame(s): {what}") from error

    def close(self) -> None:
        """Frees graphs and memory; it takes no frame after that."""
        self.max_batch = 0
        self._prepared.clear()
        self._batches.clear()

    def _run(self, frames: Sequence[CameraFrame], choice: ClassChoice) -> FramePathResult:
        launcher = self._launcher
        batch = self._batch(len(frames))
        geometries = tuple(_Geometry(f.encoding, f.width, f.height) for f in frames)
        prepared = self._prepare(geometries, batch)
        self._use(choice)
        start_ns = time.monotonic_ns()
        launcher.start()
        for frame, pieces in zip(frames, prepared.pieces, strict=True):
            view = SOURCE_LAYOUTS[frame.encoding].view(frame)
            for piece in pieces:
                piece.send(view)
        launcher.mark()
        prepared.sample()
        launcher.mark()
        batch.infer()
        launcher.mark()
        batch.choose()
        launcher.mark()
        if batch.chosen_on_host is not None:
            batch.chosen_on_host.copy_(batch.chosen, non_blocking=True)
        launcher.mark()
        up, sampling, inference, choosing, down = launcher.spans_ns()
        found = tuple(self._found(batch, place) for place in range(len(frames)))
        times = StageTimes(sampling, inference, choosing, start_ns, up, down, sampling + choosing)
        return FramePathResult(found, times)

    def _found(self, batch: _Batch, index: int) -> Survivors | RawFrameOutputs:
        if batch.chosen_on_host is not None:
            boxes = read_candidates(batch.chosen_on_host[index].numpy())
            if boxes is not None:
                return Survivors(boxes[:, :4].copy(), boxes[:, 4].copy(), boxes[:, 5].astype(np.int64), False)
        return tuple(output[index : index + 1].cpu().numpy() for output in batch.outputs)

    def _use(self, choice: ClassChoice) -> None:
        if self._least_scores is not None and choice is not self._choice:
            scores = self._torch.from_numpy(choice.least_scores(self._least_scores.shape[0]))
            self._least_scores.copy_(scores)
        self._choice = choice

    def _prepare(self, geometries: tuple[_Geometry, ...], batch: _Batch) -> _Prepared:
        if self._drawn != geometries:
            # Other pictures leave another border free.
            batch.tensor.copy_(self._border.expand_as(batch.tensor))
            self._drawn = geometries
        if geometries in self._prepared:
            self._prepared.move_to_end(geometries)
            return self._prepared[geometries]
        if len(self._prepared) == _PREPARED:
            self._prepared.popitem(last=False)
        samplers, pieces = [], []
        for index, geometry in enumerate(geometries):
            sampler, needed, part = self._sampler(geometry)
            shape = (len(needed), geometry.width * SOURCE_LAYOUTS[geometry.encoding].bytes_per_pixel)
            memory = self._torch.zeros(shape, dtype=self._torch.uint8, device=self._launcher.device)
            on_host = self._launcher.host_tensor(memory)
            samplers.append((sampler, memory, batch.tensor[index][part]))
            half = len(needed) // 2 if memory.numel() > _LARGE_BYTES else 0
            spans = [slice(0, half), slice(half, None)] if half else [slice(None)]
            pieces.append(
                tuple(_Piece(needed[span], on_host[span].numpy(), on_host[span], memory[span]) for span in spans)
            )

        def sample() -> None:
            for sampler, frame, target in samplers:
                sampler(frame, target)

        prepared = _Prepared(tuple(pieces), self._launcher.record(sample)[1])
        self._prepared[geometries] = prepared
        return prepared

    def _sampler(self, geometry: _Geometry) -> tuple[FrameSampler, Int64Array, tuple[slice, slice, slice]]:
        """With the rows of its frames that it needs, and the part of the input that it fills."""
        spec, layout = self._plan.input, SOURCE_LAYOUTS[geometry.encoding]
        tables, (left, top, width, height) = sampling_tables(spec, geometry.encoding, geometry.width, geometry.height)
        sampler = FrameSampler(
            self._torch,
            tables,
            yuv=layout.yuv,
            color_order=spec.color_order,
            factor=self._factor,
            shift=self._shift,
        )
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        return sampler, tables.needed, part

    def _batch(self, size: int) -> _Batch:
        if size in self._batches:
            return self._batches[size]
        torch, launcher, spec = self._torch, self._launcher, self._plan.input
        tensor = torch.zeros((size, spec.channels, spec.height, spec.width), dtype=self._dtype, device=launcher.device)
        outputs, infer = launcher.record(lambda: self._network(tensor))
        batch = _Batch(tensor, outputs, infer, None, None, lambda: None)
        classes = class_count(self._plan.head, outputs)
        if classes and self._plan.class_count in (0, classes):
            if self._least_scores is None:
                self._least_scores = torch.full((classes,), torch.inf, device=launcher.device)
            least = self._least_scores
            chosen, choose = launcher.record(lambda: choose_candidates(torch, self._plan.head, outputs, least))
            batch = _Batch(tensor, outputs, infer, chosen, launcher.host_tensor(chosen), choose)
        self._batches[size] = batch
        return batch

    def _takes_batches(self) -> bool:
        """Whether two frames give two of everything: a network may have been traced for one."""
        one = self._batches[1]
        pair = self._torch.zeros((2, *one.tensor.shape[1:]), dtype=self._dtype, device=self._launcher.device)
        try:
            outputs = self._network(pair)
        except (RuntimeError, ValueError, IndexError):
            return False
        shapes = [tuple(output.shape) for output in outputs]
        return shapes == [(2, *output.shape[1:]) for output in one.outputs]
