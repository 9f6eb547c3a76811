"""From a camera's bytes to candidates with ONNX Runtime alone: small graphs before and after the network.

All three share memory on the device (IOBinding): the bytes go up, and the boxes above the threshold come down. The
graphs come with the package; tools/frame_graphs.py writes them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from trt_perception.backends.frame_path import FramePathResult, FramePlan, RawFrameOutputs
from trt_perception.backends.frame_sampling import (
    SOURCE_LAYOUTS,
    U_FACTORS,
    V_FACTORS,
    SamplingTables,
    SourceLayout,
    sampling_tables,
)
from trt_perception.class_choice import ClassChoice
from trt_perception.errors import BackendError
from trt_perception.pixel_layouts import CameraFrame
from trt_perception.types import AnyArray, Int64Array, StageTimes, Uint8Array

# An onnxruntime.OrtValue, InferenceSession or IOBinding; onnxruntime itself is not imported here.
OrtValue: TypeAlias = Any
Session: TypeAlias = Any
Binding: TypeAlias = Any

GRAPHS = Path(__file__).resolve().parents[1] / "data" / "frame_graphs"
# (from YUV, three channels to grey) → graph.
SAMPLING_GRAPHS = {
    (False, False): "sample.onnx",
    (True, False): "sample_yuv.onnx",
    (False, True): "sample_gray.onnx",
    (True, True): "sample_yuv_gray.onnx",
}
CANDIDATE_GRAPHS = {"yolov8": "candidates_yolov8.onnx", "yolov5": "candidates_yolov5.onnx"}
# Frame sizes that stay prepared.
_PREPARED = 8


@dataclass(frozen=True)
class OnDevice:
    """What the backend lends: an array's copy on the device, a session for another graph there, and its name."""

    copy_of: Callable[[AnyArray], OrtValue]
    open_graph: Callable[[Path], Session]
    device: str
    device_index: int


class _Step:
    """A session whose inputs and outputs stay on the device."""

    def __init__(self, session: Session, on_device: OnDevice) -> None:
        self._session, self._on_device = session, on_device
        self._names = [output.name for output in session.get_outputs()]
        self._binding: Binding = session.io_binding()
        self.give_back()

    def take(self, values: Mapping[str, OrtValue | AnyArray]) -> None:
        """Binds inputs: values on the device, and arrays for what ONNX Runtime reads on the host."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                self._binding.bind_cpu_input(name, value)
            else:
                self._binding.bind_ortvalue_input(name, value)

    def write_to(self, name: str, value: OrtValue) -> None:
        """Binds an output to memory that is there already."""
        self._binding.bind_ortvalue_output(name, value)

    def give_back(self) -> None:
        """Lets the session allocate every output, on the device."""
        for name in self._names:
            self._binding.bind_output(name, self._on_device.device, self._on_device.device_index)

    def __call__(self) -> tuple[OrtValue, ...]:
        """Runs to the end; the outputs."""
        self._session.run_with_iobinding(self._binding)
        return tuple(self._binding.get_outputs())


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Frames of one geometry: the rows that count, on both sides, and the bound graph that samples them."""

    needed: Int64Array
    on_host: Uint8Array
    frame: OrtValue
    sample: _Step


class OnnxRuntimeFramePath:
    """A FramePath (see backends/frame_path.py) of one frame at a time; the host's head decodes what comes down.

    Of heads that have no graph here, and where a score is not finite, the network's outputs come down whole.
    """

    encodings = frozenset(SOURCE_LAYOUTS)
    max_batch = 1

    def __init__(self, network: Session, on_device: OnDevice, plan: FramePlan) -> None:
        """network: its only input takes float32. Raises onnxruntime's errors."""
        self._on_device, self._plan = on_device, plan
        self._sessions: dict[str, Session] = {}
        self._prepared: OrderedDict[tuple[str, int, int], _Prepared] = OrderedDict()
        spec = plan.input
        # As in the preprocessor.
        std = np.asarray(spec.std, np.float32)
        factor, shift = np.float32(spec.scale) / std, -np.asarray(spec.mean, np.float32) / std
        self._values = {
            "factor": on_device.copy_of(factor[: spec.channels].reshape(1, -1, 1, 1)),
            "shift": on_device.copy_of(shift[: spec.channels].reshape(1, -1, 1, 1)),
            "pad_value": np.array(spec.pad_value, np.float32),
        }
        self._tensor = on_device.copy_of(np.zeros((1, spec.channels, spec.height, spec.width), np.float32))
        self._infer = _Step(network, on_device)
        self._infer.take({network.get_inputs()[0].name: self._tensor})
        self._choose: _Step | None = None
        outputs = network.get_outputs()
        if plan.head in CANDIDATE_GRAPHS and [(len(o.shape), o.type) for o in outputs] == [(3, "tensor(float)")]:
            self._choose = _Step(on_device.open_graph(GRAPHS / CANDIDATE_GRAPHS[plan.head]), on_device)
        self._lowest = on_device.copy_of(np.zeros(1, np.float32))
        self._choice: ClassChoice | None = None

    def run(self, frames: Sequence[CameraFrame], choice: ClassChoice) -> FramePathResult:
        """See FramePath.run."""
        if len(frames) != 1 or self.max_batch == 0:
            raise BackendError(f"got {len(frames)} frames; this way takes {self.max_batch} at a time")
        try:
            return self._run(frames[0], choice)
        except BackendError:
            raise
        except Exception as error:  # the library's exceptions derive from nothing narrower
            what = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise BackendError(f"the device failed on a frame: {what}") from error

    def close(self) -> None:
        """Frees everything; it takes no frame after that."""
        self.max_batch = 0
        self._prepared.clear()
        self._sessions.clear()
        del self._infer, self._choose, self._tensor, self._values, self._lowest

    def _run(self, frame: CameraFrame, choice: ClassChoice) -> FramePathResult:
        prepared = self._prepare(frame)
        if choice is not self._choice:
            self._lowest.update_inplace(np.array([choice.lowest_score], np.float32))
            self._choice = choice
        # Each step ends when the device has done it, so the host's clock is right.
        view = SOURCE_LAYOUTS[frame.encoding].view(frame)
        # Any mode but "raise", which copies twice.
        np.take(view, prepared.needed, axis=0, out=prepared.on_host, mode="clip")
        marks = [time.monotonic_ns()]
        prepared.frame.update_inplace(prepared.on_host.reshape(-1))
        marks.append(time.monotonic_ns())
        prepared.sample()
        marks.append(time.monotonic_ns())
        outputs = self._infer()
        marks.append(time.monotonic_ns())
        chosen = self._chosen(outputs)
        marks.append(time.monotonic_ns())
        found = self._brought_down(outputs, chosen)
        marks.append(time.monotonic_ns())
        up, sampling, inference, choosing, down = np.diff(marks).tolist()
        times = StageTimes(sampling, inference, choosing, marks[0], up, down, sampling + choosing)
        return FramePathResult((found,), times)

    def _chosen(self, outputs: tuple[OrtValue, ...]) -> tuple[OrtValue, ...]:
        """Candidates and whether all is finite; nothing where the host is to choose."""
        if self._choose is None:
            return ()
        self._choose.take({"output": outputs[0], "lowest": self._lowest})
        self._choose.give_back()
        return self._choose()

    @staticmethod
    def _brought_down(outputs: tuple[OrtValue, ...], chosen: tuple[OrtValue, ...]) -> RawFrameOutputs:
        if chosen:
            candidates, finite = (value.numpy() for value in chosen)
            if np.isfinite(finite):
                return (candidates,)
        return tuple(value.numpy() for value in outputs)

    def _prepare(self, frame: CameraFrame) -> _Prepared:
        geometry = (frame.encoding, frame.width, frame.height)
        if geometry in self._prepared:
            self._prepared.move_to_end(geometry)
            return self._prepared[geometry]
        if len(self._prepared) == _PREPARED:
            self._prepared.popitem(last=False)
        spec, layout = self._plan.input, SOURCE_LAYOUTS[frame.encoding]
        to_gray = spec.color_order == "gray" and len(layout.planes) > 1
        step = _Step(self._session(SAMPLING_GRAPHS[layout.yuv, to_gray]), self._on_device)
        tables, (left, top, width, height) = sampling_tables(spec, frame.encoding, frame.width, frame.height)
        on_host = np.zeros((len(tables.needed), frame.width * layout.bytes_per_pixel), np.uint8)
        on_device = self._on_device.copy_of(on_host.reshape(-1))
        below, right = spec.height - height - top, spec.width - width - left
        step.take({"frame": on_device, "pads": np.array([0, 0, top, left, 0, 0, below, right], np.int64)})
        inputs = _inputs(tables, layout, on_host.shape[1], spec.color_order)
        step.take({**self._values, **{name: self._on_device.copy_of(table) for name, table in inputs.items()}})
        step.write_to("tensor", self._tensor)
        self._prepared[geometry] = _Prepared(tables.needed, on_host, on_device, step)
        return self._prepared[geometry]

    def _session(self, graph: str) -> Session:
        if graph not in self._sessions:
            self._sessions[graph] = self._on_device.open_graph(GRAPHS / graph)
        return self._sessions[graph]


def _inputs(tables: SamplingTables, layout: SourceLayout, row_bytes: int, color_order: str) -> dict[str, AnyArray]:
    """The tables as the sampling graphs take them."""
    rows, columns = tables.rows * row_bytes, tables.columns
    backwards = color_order == "bgr"
    if color_order != "gray":
        # A plane for each channel, in the network's order; of YUV it is the factors that are in that order.
        planes = [0, 0, 0] if len(layout.planes) == 1 else [0, 1, 2]
        order = planes[::-1] if backwards and not layout.yuv else planes
        rows, columns = rows[:, order], columns[:, order]
    found: dict[str, AnyArray] = {
        "rows": rows.astype(np.int32).reshape(2, 1, rows.shape[1], -1, 1),
        "columns": columns.astype(np.int32).reshape(1, 2, columns.shape[1], 1, -1),
        "row_weights": tables.row_weights.reshape(2, 1, 1, -1, 1),
        "column_weights": tables.column_weights.reshape(1, 2, 1, 1, -1),
    }
    if layout.yuv:
        for name, factors in (("u_factors", U_FACTORS), ("v_factors", V_FACTORS)):
            found[name] = np.array(factors[::-1] if backwards else factors, np.int32).reshape(3, 1, 1)
    return found
