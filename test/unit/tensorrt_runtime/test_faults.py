"""Messages are worded as TensorRT 8.6, 10 and 11 and CUDA print them."""

from __future__ import annotations

import pytest

from trt_perception.backends.tensorrt_runtime.faults import explain, find_fault


@pytest.mark.parametrize(
    ("message", "cause", "remedy"),
    [
        ("CUDA initialization failure with error: 35. Please check your CUDA installation", "driver is older", "-cu12"),
        (
            "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)",
            "driver is older",
            "update the driver",
        ),
        (
            "1: [stdArchiveReader.cpp::StdArchiveReader::32] Error Code 1: Serialization (Serialization assertion "
            "stdVersionRead == serializationVersion failed.Version tag does not match. Note: Current Version: 232, "
            "Serialized Engine Version: 228)",
            "another TensorRT version",
            "--versionCompatible",
        ),
        (
            "6: The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.6, "
            "please rebuild.",
            "another kind of GPU",
            "--hardwareCompatibilityLevel",
        ),
        (
            "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
            "memory does not suffice",
            "--memPoolSize",
        ),
        ("Requested amount of GPU memory (4294967296 bytes) could not be allocated.", "memory", "--maxShapes"),
        ("1: [stdArchiveReader.cpp] Error Code 1: Serialization (magicTagRead == magicTag failed)", "damaged", "again"),
        (
            "Internal Error (Failed due to an old deserialization call on a newer plan file. This might happen when "
            "the plan file was built from an older TensorRT version.)",
            "another TensorRT version",
            "--versionCompatible",
        ),
        ("3: getPluginCreator could not find plugin: EfficientNMS_TRT version: 1", "plugin", "LD_PRELOAD"),
        ("libnvinfer.so.10: cannot open shared object file: No such file or directory", "missing", "LD_LIBRARY_PATH"),
        ("libcuda.so.1: cannot open shared object file", "no NVIDIA driver", "--gpus all"),
        ("cuStreamSynchronize failed: an illegal memory access was encountered", "kernel failed", "start the process"),
    ],
)
def test_known_messages_get_cause_and_remedy(message: str, cause: str, remedy: str) -> None:
    fault = find_fault(message)
    assert fault is not None
    assert cause in fault.cause
    assert remedy in fault.remedy
    assert explain(message).startswith(message[:20]) and fault.remedy in explain(message)


def test_unknown_messages_stay_as_they_are() -> None:
    assert find_fault("something new") is None
    assert explain("something\n  new ") == "something new"
