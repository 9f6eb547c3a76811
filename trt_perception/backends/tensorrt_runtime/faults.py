"""What TensorRT and CUDA print, and what it means: a table from the library's words to cause and remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A known failure: how the library words it, why it happens, and what mends it."""

    pattern: re.Pattern[str]
    cause: str
    remedy: str


def _fault(pattern: str, cause: str, remedy: str) -> Fault:
    return Fault(re.compile(pattern, re.IGNORECASE), cause, remedy)


# The first that matches is taken, so the particular come before the general.
FAULTS = (
    _fault(
        r"error: 35\b|cudaError 35|driver version is insufficient",
        "the NVIDIA driver is older than the CUDA version that this TensorRT was built for",
        "update the driver, or install the TensorRT built for the CUDA version that nvidia-smi shows "
        "(wheels ending in -cu12, -cu13)",
    ),
    _fault(
        r"error: 100\b|cudaError 100|no CUDA-capable device",
        "the driver shows no GPU",
        "check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, --gpus all",
    ),
    _fault(
        r"incompatible device|compute \d+\.\d+ got compute|generated on .*another device",
        "the engine was built on another kind of GPU",
        "build it again on this machine, or build with --hardwareCompatibilityLevel=ampere+",
    ),
    _fault(
        r"version tag does not match|expecting library version|not compatible with this version of TensorRT"
        r"|current version: .*serialized|safeVersionRead|stdVersionRead"
        r"|old deserialization call|older TensorRT version",
        "the engine was built by another TensorRT version",
        "build it again with the installed version; --versionCompatible reaches some newer versions, not all",
    ),
    _fault(
        r"host ?code",
        "the engine brings its own runtime with it",
        "set tensorrt.engine_host_code_allowed to true where its origin is known, or build with --excludeLeanRuntime",
    ),
    _fault(
        r"lean runtime|version[- ]compatible",
        "the engine's kind does not fit this runtime: the lean and dispatch runtimes take version-compatible ones",
        "build with --versionCompatible --excludeLeanRuntime, or install the full TensorRT",
    ),
    _fault(
        r"out ?of ?memory|insufficient memory|OUT_OF_MEMORY|Requested amount of GPU memory|failed.*allocat",
        "the GPU's memory does not suffice",
        "give less workspace (--memPoolSize=workspace:MiB), a smaller batch (--maxShapes), or end other programs "
        "on the GPU",
    ),
    _fault(
        r"unable to find plugin|getPluginCreator|plugin not found|Cannot find plugin",
        "the network has an operator that only a plugin implements, and no such plugin is loaded",
        "load the library that has it (LD_PRELOAD=libmyplugin.so), or export the model without it",
    ),
    _fault(
        r"magicTagRead|magic tag|Serialization assertion|deserializ|truncated|unexpected end",
        "the file is damaged or no TensorRT engine",
        "build it again",
    ),
    _fault(
        r"libcuda\.so",
        "there is no NVIDIA driver here",
        "install it, or in a container start with --gpus all",
    ),
    _fault(
        r"(lib\w+)\.so[.\d]*: cannot open shared object|cannot open shared object|undefined symbol",
        "a library that it needs is missing or of another version",
        "install the TensorRT, CUDA and cuDNN versions that belong together, and put their folder into LD_LIBRARY_PATH",
    ),
    _fault(
        r"illegal memory access|launch failure|misaligned address|device-side assert",
        "a kernel failed; the CUDA context of this process cannot be used any more",
        "start the process again; if it comes back, build the engine again with --builderOptimizationLevel=2",
    ),
)


def find_fault(text: str) -> Fault | None:
    """The known failure that a message speaks of, None for an unknown one."""
    return next((fault for fault in FAULTS if fault.pattern.search(text)), None)


def explain(text: str) -> str:
    """The message in one line with cause and remedy behind it, where they are known."""
    line = " ".join(text.split())
    fault = find_fault(line)
    return f"{line}: {fault.cause}; {fault.remedy}" if fault else line
