"""Failures that people meet again and again, recognised by what the libraries print, each with its remedy.

The texts are those of TensorRT, ONNX Runtime, pip and glibc's loader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trt_perception.doctor.findings import Facts


@dataclass(frozen=True)
class KnownFailure:
    """name: what to call it; pattern: how its text looks; remedy: what to do, {cuda} is what the driver serves."""

    name: str
    pattern: re.Pattern[str]
    remedy: str

    def advice(self, driver: Facts) -> str:
        """The remedy on this machine; driver: what the driver probe saw."""
        cuda = driver.get("newest_cuda") or "unknown"
        return self.remedy.format(cuda=cuda, major=str(cuda).split(".")[0] if cuda != "unknown" else "12")


KNOWN_FAILURES: tuple[KnownFailure, ...] = (
    KnownFailure(
        "TensorRT for another CUDA (error 35)",
        re.compile(
            r"CUDA initialization failure with error: 35|cudaErrorInsufficientDriver"
            r"|CUDA driver version is insufficient for CUDA runtime version"
        ),
        "the library was built for a newer CUDA than the driver serves (newest: {cuda}); install the build for that "
        "CUDA (`pip uninstall tensorrt` and its tensorrt_cu* packages, then `pip install tensorrt-cu{major}`), or a "
        "newer driver",
    ),
    KnownFailure(
        "CUDA provider without cuDNN 9",
        re.compile(r"libcudnn[a-z_]*\.so\.9|[Rr]equire cuDNN 9|cudnn64_9"),
        "ONNX Runtime's CUDA provider needs cuDNN 9: `pip install nvidia-cudnn-cu{major}` (or your system's package "
        "libcudnn9-cuda-{major}), and put the folder of libcudnn.so.9 into LD_LIBRARY_PATH",
    ),
    KnownFailure(
        "build needs pip, which Poetry leaves out",
        re.compile(r"No module named '?pip'?\b|No module named '?tensorrt_(libs|bindings)"),
        "this package fetches its libraries with pip while it is installed, and Poetry's environments have no pip: "
        "`poetry run python -m ensurepip --upgrade`, then `poetry run python -m pip install tensorrt==VERSION` "
        "in place of `poetry add`",
    ),
    KnownFailure(
        "CUDA libraries missing",
        re.compile(r"lib(cublas|cublasLt|cudart|cufft|curand|nvrtc)\.so\.\d+: cannot open shared object"),
        "CUDA's libraries are not found: `pip install onnxruntime-gpu[cuda,cudnn]` brings those of ONNX Runtime; for a "
        "CUDA toolkit, put its lib64 into LD_LIBRARY_PATH (the driver serves CUDA up to {cuda})",
    ),
    KnownFailure(
        "no NVIDIA driver",
        re.compile(r"libcuda\.so\.1: cannot open shared object|no CUDA-capable device|Found no NVIDIA driver"),
        "install NVIDIA's driver (`sudo ubuntu-drivers install`), or start the container with `--gpus all`",
    ),
    KnownFailure(
        "module compiled for NumPy 1",
        re.compile(r"compiled using NumPy 1\.x cannot be run in"),
        '`pip install "numpy<2"` in this environment, or a version of the module that knows NumPy 2',
    ),
    KnownFailure(
        "RMW that is not installed",
        re.compile(r"Expected RMW implementation identifier of|failed to load shared library 'librmw_\w+\.so'"),
        "`unset RMW_IMPLEMENTATION`, or set it to one that is installed; see the rmw line",
    ),
    KnownFailure(
        "ROS libraries of another environment",
        re.compile(r"librcl_action\.so: cannot open shared object"),
        "leave the other environment's variables behind: `env -u LD_LIBRARY_PATH -u _ROS_WHEELS_BOOTSTRAP_COMPLETE` "
        "before the command, or source one setup.bash only",
    ),
)


def recognise(text: str) -> KnownFailure | None:
    """The first known failure whose text is in `text`, None when there is none."""
    return next((known for known in KNOWN_FAILURES if known.pattern.search(text)), None)
