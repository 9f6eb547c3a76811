"""Everything that an engine build can be told, with trtexec's meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from trt_perception.backends.tensorrt_runtime.manifest import EngineKey, parse_profile
from trt_perception.engine.shapes import ShapeOptions, parse_memory_pools, shape_text
from trt_perception.errors import PerceptionError

Int8Method: TypeAlias = Literal["auto", "calibrate", "qdq"]
INT8_METHODS: tuple[str, ...] = get_args(Int8Method)
LAYER_PRECISIONS = ("fp32", "fp16", "int8")
HARDWARE_LEVELS = ("none", "ampere+", "sameComputeCapability")


@dataclass(frozen=True)
class BuildOptions:
    """One engine to build.

    onnx: the model. save_engine: where to, None for the cache folder `cache` (empty: the user's). fp16, int8:
    precisions that TensorRT may use beside FP32. no_tf32: full FP32 where TensorRT would round to TF32's ten bits.
    calib: INT8 calibration cache, read where it exists, else written. calib_images: folder of pictures of what the
    camera sees; calib_count: how many of them are used at most. int8_method: TensorRT's calibrator, Q/DQ nodes put in
    by ONNX Runtime, or auto, see `int8_by`. shapes: for free sizes. memory_pools: trtexec's word → bytes.
    timing_cache_file: kernel timings, read and written. optimization_level: 0 to 5, None for the library's.
    layer_precisions: layer or node name → fp32, fp16 or int8. fp32_boxes: FP32 for what computes boxes behind the last
    convolutions (engine/box_arithmetic.py), also where FP16 or INT8 is allowed, and no Q/DQ around those.
    tactic_sources: as trtexec, `-CUDNN,+CUBLAS`. device: GPU index. force: build although a fitting engine is there.
    """

    onnx: Path
    save_engine: Path | None = None
    cache: str = ""
    fp16: bool = False
    no_tf32: bool = False
    int8: bool = False
    calib: Path | None = None
    calib_images: Path | None = None
    calib_count: int = 200
    int8_method: Int8Method = "auto"
    shapes: ShapeOptions = field(default_factory=ShapeOptions)
    memory_pools: Mapping[str, int] = field(default_factory=dict)
    timing_cache_file: Path | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    hardware_compatibility_level: str = "none"
    layer_precisions: Mapping[str, str] = field(default_factory=dict)
    fp32_boxes: bool = True
    tactic_sources: str = ""
    device: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise PerceptionError(f"--builderOptimizationLevel is {self.optimization_level}; expected 0 to 5")
        if self.exclude_lean_runtime and not self.version_compatible:
            raise PerceptionError("--excludeLeanRuntime only means something with --versionCompatible; give both")
        if self.hardware_compatibility_level not in HARDWARE_LEVELS:
            raise PerceptionError(
                f"--hardwareCompatibilityLevel is {self.hardware_compatibility_level!r}; expected "
                f"{', '.join(HARDWARE_LEVELS)}"
            )
        parse_tactic_sources(self.tactic_sources)
        for name, precision in self.layer_precisions.items():
            if precision not in LAYER_PRECISIONS:
                raise PerceptionError(
                    f"--layerPrecisions: {name} is {precision!r}; expected one of {', '.join(LAYER_PRECISIONS)}"
                )

    @property
    def precision(self) -> str:
        """The lowest precision allowed, by which backends ask for the engine: int8, fp16 or fp32."""
        return "int8" if self.int8 else "fp16" if self.fp16 else "fp32"

    def key_shapes(self) -> dict[str, str]:
        """The shapes as they stand in the engine's key: input → min/opt/max, `-` where one was not given."""
        names = {*self.shapes.smallest, *self.shapes.best, *self.shapes.largest}
        columns = (self.shapes.smallest, self.shapes.best, self.shapes.largest)
        return {name: "/".join(shape_text(c[name]) if name in c else "-" for c in columns) for name in sorted(names)}

    @property
    def int8_by(self) -> str:
        """`auto` takes Q/DQ nodes, which every version understands and which keep more accuracy (docs/tensorrt.md),
        unless a calibration cache is named.
        """
        if self.int8_method != "auto":
            return self.int8_method
        return "qdq" if self.calib is None else "calibrate"

    def key_options(self, calibration: str) -> dict[str, str]:
        """Everything else that changes the result, by trtexec's names; calibration: hash of what INT8 is based on."""
        options = {
            "fp16": str(self.fp16).lower(),
            "noTF32": str(self.no_tf32).lower(),
            "versionCompatible": str(self.version_compatible).lower(),
            "excludeLeanRuntime": str(self.exclude_lean_runtime).lower(),
            "hardwareCompatibilityLevel": self.hardware_compatibility_level,
            "builderOptimizationLevel": "default" if self.optimization_level is None else str(self.optimization_level),
            "memPoolSize": ",".join(f"{pool}:{size}B" for pool, size in sorted(self.memory_pools.items())),
            "layerPrecisions": ",".join(f"{name}:{kind}" for name, kind in sorted(self.layer_precisions.items())),
            "tacticSources": self.tactic_sources,
        }
        if self.fp16 or self.int8:
            options["fp32Boxes"] = str(self.fp32_boxes).lower()
        if self.int8:
            options |= {"int8Method": self.int8_by, "calibration": calibration}
        return options


def restored_options(key: EngineKey, onnx: Path) -> BuildOptions:
    """The options that an engine of this key was built with; calibration files are not among them.

    Raises PerceptionError for a key that no build writes.
    """
    given = {"builderOptimizationLevel": "default", **key.options}
    try:
        level = given["builderOptimizationLevel"]
        profiles = {name: parse_profile(text) for name, text in key.shapes.items()}
        columns = [
            {name: profile[column] for name, profile in profiles.items() if column in profile}
            for column in ("smallest", "best", "largest")
        ]
        return BuildOptions(
            onnx=onnx,
            fp16=given.get("fp16") == "true",
            no_tf32=given.get("noTF32") == "true",
            int8=key.precision == "int8",
            shapes=ShapeOptions(*columns),
            memory_pools=parse_memory_pools(given.get("memPoolSize", "")),
            optimization_level=None if level == "default" else int(level),
            version_compatible=given.get("versionCompatible") == "true",
            exclude_lean_runtime=given.get("excludeLeanRuntime") == "true",
            hardware_compatibility_level=given.get("hardwareCompatibilityLevel", "none"),
            layer_precisions=parse_layer_precisions(given.get("layerPrecisions", "")),
            fp32_boxes=given.get("fp32Boxes") != "false",
            tactic_sources=given.get("tacticSources", ""),
        )
    except (ValueError, PerceptionError) as error:
        raise PerceptionError(
            f"the manifest beside the engine has options that cannot be met ({error}); delete both and build it again"
        ) from error


def parse_layer_precisions(text: str) -> dict[str, str]:
    """`conv1:fp32,head/conv2:fp16` → layer and precision; raises PerceptionError. A name may contain colons."""
    chosen: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, _, precision = part.rpartition(":")
        if not name:
            raise PerceptionError(f"layer precision {part!r} is not LAYER:PRECISION; for example conv1:fp32")
        chosen[name] = precision
    return chosen


def parse_hardware_level(text: str) -> str:
    """One of HARDWARE_LEVELS, in any case as with trtexec; another text as it is, for BuildOptions to refuse."""
    return next((level for level in HARDWARE_LEVELS if level.lower() == text.lower()), text)


def parse_tactic_sources(text: str) -> list[tuple[bool, str]]:
    """`-CUDNN,+CUBLAS` → whether each is wanted, and its name; raises PerceptionError."""
    sources: list[tuple[bool, str]] = []
    for part in filter(None, text.split(",")):
        if part[0] not in "+-" or len(part) < 2:
            raise PerceptionError(f"--tacticSources: {part!r} must begin with + or -; for example -CUDNN,+CUBLAS")
        sources.append((part[0] == "+", part[1:].upper()))
    return sources
