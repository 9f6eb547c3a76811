"""What the builder is told, with a configuration that notes it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from test.unit.tensorrt_runtime.fake_tensorrt import fake_tensorrt
from trt_perception.engine.builder import NativeBuild
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.source import Source

ONNX = Path("m.onnx")


class Config:
    """IBuilderConfig."""

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.pools: dict[str, int] = {}
        self.sources = 0b111
        self.builder_optimization_level: object = "default"
        self.hardware_compatibility_level = "default"
        self.profiling_verbosity = ""

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.remove(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size

    def get_tactic_sources(self) -> int:
        return self.sources

    def set_tactic_sources(self, mask: int) -> None:
        self.sources = mask


class Names:
    """An enumeration whose members are their names."""

    def __getattr__(self, name: str) -> str:
        return name


def configured(options: BuildOptions, flags: tuple[str, ...] = ()) -> tuple[Config, list[str]]:
    """The configuration, and the precisions of the layers `first` and `second`."""
    names = ("BuilderFlag", "HardwareCompatibilityLevel", "MemoryPoolType", "ProfilingVerbosity", "DataType")
    enumerations: dict[str, Any] = {name: Names() for name in names}
    trt = fake_tensorrt((8, 6, 0), TacticSource=SimpleNamespace(CUBLAS=0, CUBLAS_LT=1, CUDNN=2), **enumerations)
    source = Source(
        model=b"",
        flags=flags,
        calibrate=False,
        images=None,
        constrain_layers=bool(options.layer_precisions),
        fp32_tensors=frozenset(),
        notes=(),
    )
    build = NativeBuild(trt, None, options, source, None)  # type: ignore[arg-type]
    config = Config()
    build._builder = SimpleNamespace(create_builder_config=lambda: config, create_optimization_profile=lambda: None)
    layers = [SimpleNamespace(name=name, precision="any") for name in ("first", "second")]
    build._network = SimpleNamespace(num_inputs=0, num_layers=len(layers), get_layer=layers.__getitem__)
    assert build._configure() is config
    return config, [layer.precision for layer in layers]


def test_nothing_is_told_where_nothing_is_asked() -> None:
    config, precisions = configured(BuildOptions(ONNX))
    assert (config.flags, config.pools, config.sources) == ({"TF32"}, {}, 0b111)
    assert (config.builder_optimization_level, config.hardware_compatibility_level) == ("default", "default")
    assert (config.profiling_verbosity, precisions) == ("DETAILED", ["any", "any"])


def test_everything_that_is_asked_is_told() -> None:
    options = BuildOptions(
        ONNX,
        fp16=True,
        no_tf32=True,
        memory_pools={"workspace": 64 * 2**20},
        optimization_level=1,
        version_compatible=True,
        exclude_lean_runtime=True,
        hardware_compatibility_level="ampere+",
        layer_precisions={"second": "fp16"},
        tactic_sources="-CUDNN",
    )
    config, precisions = configured(options, ("FP16", "OBEY_PRECISION_CONSTRAINTS"))
    assert config.flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
    assert config.pools == {"WORKSPACE": 64 * 2**20}
    assert (config.builder_optimization_level, config.hardware_compatibility_level) == (1, "AMPERE_PLUS")
    assert (config.sources, precisions) == (0b011, ["any", "HALF"])


@pytest.mark.parametrize("flag", ["INT8", "FP16"])
def test_each_flag_of_the_source_is_set(flag: str) -> None:
    config, _ = configured(BuildOptions(ONNX), (flag,))
    assert config.flags == {"TF32", flag}
