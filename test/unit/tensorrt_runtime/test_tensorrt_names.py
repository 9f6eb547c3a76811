"""Every name used of TensorRT exists in the real bindings; tensorrt_names.json was read out of their wheels.

`python -m tools.tensorrt.record_names` makes that file again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trt_perception.backends.tensorrt_runtime.library import parse_version
from trt_perception.backends.tensorrt_runtime.versions import PROFILE_SHARING, Dialect, dialect_for
from trt_perception.engine.shapes import MEMORY_POOLS

NAMES: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "tensorrt_names.json").read_text(encoding="utf-8")
)
VERSIONS = sorted(NAMES)

# What the code calls whatever the version is.
ALWAYS = {
    "module": ["get_plugin_registry", "init_libnvinfer_plugins"],
    "Builder": [
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    ],
    "IBuilderConfig": [
        "add_optimization_profile",
        "clear_flag",
        "create_timing_cache",
        "get_tactic_sources",
        "get_timing_cache",
        "profiling_verbosity",
        "set_flag",
        "set_memory_pool_limit",
        "set_tactic_sources",
        "set_timing_cache",
    ],
    "INetworkDefinition": ["get_input", "get_layer", "num_inputs", "num_layers"],
    "ILayer": ["get_output", "name", "num_outputs"],
    "IOptimizationProfile": ["set_shape"],
    "ITimingCache": ["serialize"],
    "OnnxParser": ["get_error", "num_errors", "parse", "supports_operator"],
    "ParserError": ["desc", "node"],
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": [
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_format",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
    ],
    "IExecutionContext": [
        "active_optimization_profile",
        "execute_async_v3",
        "get_tensor_shape",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    ],
    "BuilderFlag": ["TF32"],
    "ProfilingVerbosity": ["DETAILED"],
    "TensorIOMode": ["INPUT"],
    "DataType": ["BOOL", "FLOAT", "HALF", "INT32", "INT8", "UINT8"],
    "ILogger": ["log"],
}


def has(version: str, owner: str, name: str) -> bool:
    return name in NAMES[version].get(owner, [])


def dialect(version: str) -> Dialect:
    return dialect_for(parse_version(version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("owner", ALWAYS)
def test_what_is_always_called_is_there(version: str, owner: str) -> None:
    assert [name for name in ALWAYS[owner] if not has(version, owner, name)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_table_is_right(version: str) -> None:
    table = dialect(version)
    flags = [table.version_compatible, table.exclude_lean, table.layer_precision_flag, table.layer_preference_flag]
    flags += ["FP16"] if table.half_by == "flag" else []
    flags += ["INT8"] if table.int8_by == "calibrate" else []
    assert [flag for flag in flags if flag is not None and not has(version, "BuilderFlag", flag)] == []
    assert [flag for flag in table.network_flags if not has(version, "NetworkDefinitionCreationFlag", flag)] == []
    levels = [level for _, level in table.hardware_compatibility]
    assert [level for level in levels if not has(version, "HardwareCompatibilityLevel", level)] == []
    assert has(version, "IBuilderConfig", "builder_optimization_level") == table.optimization_level
    assert has(version, "IBuilderConfig", "progress_monitor") == table.progress_monitor
    assert has(version, "IPluginRegistry", table.plugin_list)
    assert has(version, "ICudaEngine", table.device_memory)
    if table.profile_sharing == "asked":
        assert has(version, "PreviewFeature", PROFILE_SHARING)
        assert has(version, "IBuilderConfig", "set_preview_feature")


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_left_out_that_a_version_has(version: str) -> None:
    table = dialect(version)
    assert has(version, "BuilderFlag", "FP16") == (table.half_by == "flag")
    assert ("IInt8EntropyCalibrator2" in NAMES[version]) == (table.int8_by == "calibrate")
    assert has(version, "IBuilderConfig", "int8_calibrator") == (table.int8_by == "calibrate")
    for name in ("precision", "set_output_type"):
        assert has(version, "ILayer", name) == (table.layer_precision_flag is not None)
    assert has(version, "BuilderFlag", "OBEY_PRECISION_CONSTRAINTS") == (table.layer_precision_flag is not None)
    assert has(version, "BuilderFlag", "PREFER_PRECISION_CONSTRAINTS") == (table.layer_preference_flag is not None)


@pytest.mark.parametrize("pool", MEMORY_POOLS.values())
def test_every_memory_pool_exists_in_the_newest(pool: str) -> None:
    assert has("11.4.0.106", "MemoryPoolType", pool)
