"""TorchScript: on the CPU, or on an NVIDIA GPU."""

from __future__ import annotations

import itertools
import threading
import time
import zipfile
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trt_perception.artifact_metadata import read_metadata
from trt_perception.backends.base import Backend, BackendInfo, RawOutputs
from trt_perception.backends.cuda_frames.path import CudaFramePath
from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.backends.frame_path import FramePath, FramePlan
from trt_perception.backends.hardware import cpu_name
from trt_perception.backends.settings import require_stream_count, require_thread_count, require_writable_setting
from trt_perception.backends.torch_gpu_graph import Convolutions, GpuModule
from trt_perception.backends.torch_network import MAX_BATCH, TorchNetwork, last_line
from trt_perception.backends.torch_profile import TorchProfile
from trt_perception.errors import BackendError, BackendUnavailableError, ModelFileError
from trt_perception.types import AnyArray, TensorSpec

if TYPE_CHECKING:
    import torch

_DIMENSIONS = 4  # NCHW
_TF32_CAPABILITY = (8, 0)
# What torch's C++ errors become in Python; damaged archives give each of them.
_TORCH_ERRORS = (RuntimeError, ValueError, LookupError, TypeError, OSError, MemoryError)


@dataclass(frozen=True)
class TorchScriptSettings:
    """cudnn_benchmark: cuDNN times its algorithms on the first frames of each batch size and keeps the fastest, which
    may take long and differ from run to run; else it chooses by rules. freeze: weights become constants and layers are
    fused; on a GPU the network is laid out for it. tf32: on a GPU the convolutions of fp32 round their factors to
    TF32's ten bits, as torch does by default. A traced network holds these switches of cuDNN itself: they count only
    with freeze. intra_op_threads: threads inside one operator on the CPU for the whole process, 0 = torch's choice.
    They wait busily: where other processes want the same cores give fewer threads
    than cores, or set OMP_WAIT_POLICY=PASSIVE before the process starts (8 ms become 100 to 3000 ms beside two busy
    processes on two cores, 25 to 40 ms with it). cuda_graph: on a GPU the network is recorded once and launched as a
    whole, with what is done around it where torch is 2.8 or newer. device_path: on a GPU camera bytes become the input
    tensor, and outputs become boxes, there. streams: frames that may overlap on a GPU when several are given at once to
    a network that was traced for one; each takes memory of its own. profile_to: file for the time of every operator,
    written by close(); empty = not measured, which costs time.
    """

    cudnn_benchmark: bool = False
    freeze: bool = True
    tf32: bool = True
    cuda_graph: bool = True
    device_path: bool = True
    streams: int = 1
    intra_op_threads: int = 0
    profile_to: str = ""

    def __post_init__(self) -> None:
        require_thread_count("torchscript", "intra_op_threads", self.intra_op_threads)
        require_stream_count("torchscript", self.streams)


class TorchScriptBackend(Backend):
    """Runs a TorchScript archive; FP16 is for CUDA only, where the hardware gains by it."""

    name: ClassVar[str] = "torchscript"
    artifact_kind: ClassVar[str] = "torchscript"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    Settings = TorchScriptSettings
    path_settings: ClassVar[tuple[str, ...]] = ("profile_to",)

    _module: torch.jit.ScriptModule | GpuModule | None = None
    _profile: TorchProfile | None = None
    _paths_closing: ExitStack | None = None

    def _open(self) -> BackendInfo:
        torch = _import_torch(self)
        self._torch = torch
        self._turn = threading.RLock()
        self._paths: dict[FramePlan, CudaFramePath] = {}
        self._paths_closing = ExitStack()
        device, fallback_reason = self._choose_device(torch)
        half = self.request.precision == "fp16"
        notes: list[str] = []
        if half and device == "cpu":
            if fallback_reason is None:
                raise BackendError(f"{self.request}: fp16 needs a GPU here; ask for torchscript:cpu or :cuda:fp16")
            half = False
            notes.append("fp32 instead of fp16: the CPU runs instead of the GPU")
        settings: TorchScriptSettings = self.settings
        if settings.intra_op_threads > 0:
            torch.set_num_threads(settings.intra_op_threads)
        torch.backends.cudnn.benchmark = settings.cudnn_benchmark
        torch.backends.cudnn.allow_tf32 = settings.tf32
        self._device = torch.device(device)
        self._dtype = torch.float16 if half else torch.float32
        if device != "cpu" and settings.freeze:
            self._module = self._gpu_module(torch, notes)
        else:
            self._module = self._load(torch)
        if settings.profile_to:
            require_writable_setting(self.request, "profile_to", settings.profile_to)
            self._profile = TorchProfile(torch, notes)
        return BackendInfo(
            backend=self.name,
            requested=str(self.request),
            device=device,
            device_name=cpu_name() if device == "cpu" else torch.cuda.get_device_name(self._device),
            provider="CPU" if device == "cpu" else f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
            precision="fp16" if half else "fp32",
            library=f"torch {torch.__version__}",
            # An archive does not tell its tensors' shapes: the input's are the caller's, the outputs' come with them.
            inputs=(TensorSpec("images", "float32", (None,) * _DIMENSIONS),),
            outputs=(),
            metadata=self._metadata(),
            fallback_reason=fallback_reason,
            notes=tuple(notes),
        )

    def _metadata(self) -> dict[str, str]:
        try:
            return read_metadata(self.artifact, ".torchscript")
        except ModelFileError as error:
            raise BackendError(f"{self.request}: {error}") from error

    def _choose_device(self, torch: Any) -> tuple[str, str | None]:
        """The device to load on, and why it is not the one asked for."""
        if self.device == "cpu":
            return "cpu", None
        if not torch.cuda.is_available():
            reason = (
                "this torch was built without CUDA; install a CUDA build"
                if torch.version.cuda is None
                else f"torch (CUDA {torch.version.cuda}) finds no usable GPU; check the driver with nvidia-smi"
            )
            return "cpu", self._refuse_or_note_fallback("cpu", reason)
        count = torch.cuda.device_count()
        if self.device_index >= count:
            raise BackendUnavailableError(
                f"{self.request}: there is no GPU {self.device_index}; torch sees {count} (cuda:0 to cuda:{count - 1})"
            )
        return f"cuda:{self.device_index}", None

    def _gpu_module(self, torch: Any, notes: list[str]) -> GpuModule:
        def tell(note: str) -> None:
            notes.append(note)
            self._add_notes(note)

        settings: TorchScriptSettings = self.settings
        # Kernels of fused operators for every batch that is recorded; further shapes share some that take longer.
        torch.jit.set_fusion_strategy([("STATIC", MAX_BATCH), ("DYNAMIC", MAX_BATCH)])
        # Without TF32 no tensor core multiplies float32, and cuDNN has only slow kernels for that layout.
        has_tf32 = settings.tf32 and torch.cuda.get_device_capability(self._device) >= _TF32_CAPABILITY
        convolutions = Convolutions(self._dtype == torch.float16 or has_tf32, settings.cudnn_benchmark, settings.tf32)
        return GpuModule(torch, lambda: self._load(torch), convolutions, tell)

    def _load(self, torch: Any) -> Any:
        # A pickle can run code, so what is no archive never reaches torch, whatever its version does with it.
        if not _is_archive(self.artifact):
            raise BackendError(f"{self.artifact} is not a TorchScript archive; save it with torch.jit.save")
        try:
            module = torch.jit.load(str(self.artifact), map_location=self._device)
            module.eval()
            module.to(device=self._device, dtype=self._dtype)
            strays = {str(p.device) for p in module.parameters() if p.device.type != self._device.type}
            if strays:
                raise BackendError(f"{self.request}: weights stayed on {', '.join(strays)}; export the model again")
            if self.settings.freeze:
                module = torch.jit.freeze(module)
        except _TORCH_ERRORS as error:
            raise BackendError(
                f"torch {torch.__version__} cannot load {self.artifact}: {_first_line(error)}; the file is damaged, "
                "not a TorchScript archive, or saved by a newer torch: export it again"
            ) from error
        return module

    def frame_path(self, plan: FramePlan) -> FramePath | str | None:
        """See Backend.frame_path."""
        if self.info.device == "cpu":
            return None
        settings: TorchScriptSettings = self.settings
        if not settings.device_path:
            return "switched off by the setting device_path"
        if settings.profile_to:
            return "a profile is taken, which is of the network's operators alone"
        if plan in self._paths:
            return self._paths[plan]
        assert self._paths_closing is not None
        given = plan.input
        with ExitStack() as undo:
            try:
                network = TorchNetwork(
                    self._torch,
                    self._device,
                    self._tensors,
                    (given.channels, given.height, given.width),
                    self._dtype,
                    graphs=settings.cuda_graph,
                    channels_last=isinstance(self._module, GpuModule) and self._module.channels_last,
                )
                session = FrameSession(self._device.index)
                undo.callback(session.close)
                path = CudaFramePath(network, session, plan, self._turn, tell=self._add_notes, streams=settings.streams)
                undo.callback(path.close)
            except BackendError as error:
                return str(error)
            self._paths_closing.push(undo.pop_all())
        self._paths[plan] = path
        return path

    def _infer(self, batch: AnyArray) -> RawOutputs:
        assert self._module is not None
        torch = self._torch
        run = self._infer_on_cpu if self._device.type == "cpu" else self._infer_on_cuda
        try:
            with torch.inference_mode(), self._profile.run() if self._profile is not None else nullcontext():
                return run(torch.from_numpy(batch))
        except _TORCH_ERRORS as error:
            raise BackendError(f"{self.request} failed while running {self.artifact}: {last_line(error)}") from error

    def _infer_on_cpu(self, batch: torch.Tensor) -> RawOutputs:
        start_ns = time.monotonic_ns()
        outputs = self._outputs(batch)
        inference_ns = time.monotonic_ns() - start_ns
        return RawOutputs(tuple(o.numpy() for o in outputs), start_ns, inference_ns)

    def _infer_on_cuda(self, batch: torch.Tensor) -> RawOutputs:
        torch = self._torch
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream()
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
            start_ns = time.monotonic_ns()
            marks[0].record(stream)
            on_device = batch.to(self._device, non_blocking=True).to(self._dtype)
            marks[1].record(stream)
            outputs = self._outputs(on_device)
            marks[2].record(stream)
            on_host = [o.to("cpu", non_blocking=True) for o in outputs]
            marks[3].record(stream)
            stream.synchronize()
            copy_up, inference, copy_down = (round(a.elapsed_time(b) * 1e6) for a, b in itertools.pairwise(marks))
        return RawOutputs(tuple(o.numpy() for o in on_host), start_ns, inference, copy_up, copy_down)

    def _outputs(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """The network's tensors, flat and as float32 where they are half precision."""
        halves = (self._torch.float16, self._torch.bfloat16)
        return [o.float() if o.dtype in halves else o for o in self._tensors(batch)]

    def _tensors(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """The network's tensors as they come, flat."""
        assert self._module is not None
        outputs = _flatten(self._torch, self._module(batch))
        for output in outputs:
            if output.device.type != self._device.type:
                raise BackendError(f"{self.request}: an output came from {output.device}; export the model again")
        return outputs

    def _close(self) -> None:
        profile, self._profile = self._profile, None
        lost = profile is not None and not profile.stop()
        paths, self._paths_closing = self._paths_closing, None
        if paths is not None:
            self._paths.clear()
            paths.close()
        was_on_cuda = self._module is not None and self._device.type == "cuda"
        self._module = None
        if was_on_cuda:
            # As in FrameSession.close.
            with suppress(*_TORCH_ERRORS):
                self._torch.cuda.empty_cache()
        # Last: where the file cannot be written, everything else is closed all the same.
        if lost:
            raise BackendError(f"{self.request}: no profile: another thread began it, which takes torch 2.7 or newer")
        if profile is not None:
            self._write(profile)

    def _write(self, profile: TorchProfile) -> None:
        try:
            profile.write(Path(self.settings.profile_to))
        except BackendError as error:
            raise BackendError(f"{self.request}: {error}") from error


def _import_torch(backend: Backend) -> Any:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a CUDA library that torch links to is missing
        raise BackendUnavailableError(
            f"{backend.request} needs the Python package torch ({error}); install it with `pip install torch`"
        ) from error
    return torch


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # an end record that speaks of several disks
        return False


def _flatten(torch: Any, value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for entry in value for tensor in _flatten(torch, entry)]
    raise BackendError(f"the TorchScript module returned a {type(value).__name__}; expected tensors")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
