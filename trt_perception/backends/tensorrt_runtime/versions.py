"""One table: what each TensorRT version understands, so that no other file asks for the version.

Source: NVIDIA's release notes and migration guides; the names were checked against the 8.6.0, 10.16.1.11 and
11.4.0.106 bindings (test/unit/tensorrt_runtime/test_tensorrt_names.py compares with what was read out of them).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from trt_perception.errors import BackendError

# flag: a builder flag lets TensorRT choose; convert: the ONNX itself is converted and the network is strongly typed.
HalfBy: TypeAlias = Literal["flag", "convert"]
# calibrate: TensorRT calibrates (Q/DQ models work as well); qdq: only models with QuantizeLinear nodes.
Int8By: TypeAlias = Literal["calibrate", "qdq"]
# Whether execution contexts may use one profile at once: never, where an engine was built for it (PROFILE_SHARING), or
# always.
ProfileSharing: TypeAlias = Literal["never", "asked", "always"]
# PreviewFeature, which 10 has switched on for good and 11 does not name any more.
PROFILE_SHARING = "PROFILE_SHARING_0806"


@dataclass(frozen=True)
class Dialect:
    """How each wish is expressed from this version on; None or False: it cannot be expressed.

    since: first version. network_flags: names in NetworkDefinitionCreationFlag for a network from ONNX. half_by,
    int8_by: how FP16 and INT8 are asked for. layer_precision_flag: builder flag that makes layers keep the precision
    set on them; layer_preference_flag: the same where it can be had. optimization_level: there is
    builder_optimization_level. version_compatible, exclude_lean: builder flags. hardware_compatibility: level by
    trtexec's word. progress_monitor: the builder reports and can be cancelled. plugin_list: the plugin registry's
    attribute that holds its creators. profile_sharing: see ProfileSharing. device_memory: attribute of an engine that
    says how much memory a context takes, bytes. probe_runtime: a runtime without a fitting driver crashes the process,
    so it is tried in another one first.
    """

    since: tuple[int, int]
    network_flags: tuple[str, ...] = ("EXPLICIT_BATCH",)
    half_by: HalfBy = "flag"
    int8_by: Int8By = "calibrate"
    layer_precision_flag: str | None = "OBEY_PRECISION_CONSTRAINTS"
    layer_preference_flag: str | None = "PREFER_PRECISION_CONSTRAINTS"
    optimization_level: bool = False
    version_compatible: str | None = None
    exclude_lean: str | None = None
    hardware_compatibility: tuple[tuple[str, str], ...] = ()
    progress_monitor: bool = False
    plugin_list: Literal["plugin_creator_list", "all_creators"] = "plugin_creator_list"
    profile_sharing: ProfileSharing = "never"
    device_memory: str = "device_memory_size"
    probe_runtime: bool = False


_8_5 = Dialect(since=(8, 5))
_8_6 = replace(
    _8_5,
    since=(8, 6),
    optimization_level=True,
    version_compatible="VERSION_COMPATIBLE",
    exclude_lean="EXCLUDE_LEAN_RUNTIME",
    hardware_compatibility=(("none", "NONE"), ("ampere+", "AMPERE_PLUS")),
    profile_sharing="asked",
)
_10 = replace(
    _8_6,
    since=(10, 0),
    network_flags=(),
    # The last one came during 10.x; the builder says so where the installed one lacks it.
    hardware_compatibility=(*_8_6.hardware_compatibility, ("sameComputeCapability", "SAME_COMPUTE_CAPABILITY")),
    progress_monitor=True,
    plugin_list="all_creators",
    profile_sharing="always",
    probe_runtime=True,
)
_11 = replace(
    _10,
    since=(11, 0),
    network_flags=("STRONGLY_TYPED",),
    half_by="convert",
    int8_by="qdq",
    layer_precision_flag=None,
    layer_preference_flag=None,
    device_memory="device_memory_size_v2",
)

# Oldest first. 9 spoke 8.6's language and was made for no hardware that ROS 2 runs on.
DIALECTS: tuple[Dialect, ...] = (_8_5, _8_6, _10, _11)
_NEWEST_KNOWN_MAJOR = 11


def dialect_for(version: tuple[int, ...]) -> Dialect:
    """The newest entry that is not newer than the version; raises BackendError below 8.5 and above 11."""
    matching = [dialect for dialect in DIALECTS if dialect.since <= version[:2]]
    if not matching or version[0] > _NEWEST_KNOWN_MAJOR:
        raise BackendError(
            f"TensorRT {'.'.join(map(str, version))} is installed; 8.5 to {_NEWEST_KNOWN_MAJOR}.x are supported: "
            "install one of these"
        )
    return matching[-1]
