"""What each probe makes of what it saw, for environments that cannot all be planted on one machine."""

from __future__ import annotations

from typing import Any

import pytest

from trt_perception.doctor.examine import judged
from trt_perception.doctor.findings import Facts, Level, Outcome
from trt_perception.doctor.probes import (
    cudnn,
    messages,
    numpy,
    onnxruntime,
    opencv,
    pycuda,
    python,
    rmw,
    ros,
    tensorrt,
    torch,
)

GPU: Facts = {"newest_cuda": "13.0", "gpus": [{"name": "a GPU"}]}
NONE: Facts = {}
ABSENT = {"import_error": "No module named 'x'", "installed": False}
BROKEN = {"import_error": "undefined symbol: y", "installed": True}

TORCH = {"version": "2.6.0", "cuda": "12.4", "cudnn": 90100, "cuda_is_available": True, "gpus": {"cuda:0": "16.0"}}
TRT = {"module": "tensorrt", "version": "10.3.0", "distributions": {"tensorrt-cu12": "10.3.0"}}
PYCUDA = {"version": "2024.1", "distributions": {"pycuda": "2024.1"}, "built_for_cuda": "12.4.0"}
ORT: dict[str, Any] = {
    "version": "1.20.0",
    "provider": "CUDAExecutionProvider",
    "distributions": {"onnxruntime-gpu": "1.20.0"},
    "listed": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "loaded": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "right": True,
}
ROS: dict[str, Any] = {
    "version": "7.1",
    "ros_distro": "jazzy",
    "prefixes": ["/opt/ros/jazzy"],
    "wheels": {},
    "distributions": ["jazzy"],
    "path": "/opt/ros/jazzy/rclpy",
}
RMW: dict[str, Any] = {
    "has_rclpy": True,
    "requested": "rmw_fastrtps_cpp",
    "registered": ["rmw_fastrtps_cpp", "rmw_implementation"],
    "running": "rmw_fastrtps_cpp",
}
PYTHON = {"version": "3.11.7", "executable": "/usr/bin/python3", "has_pip": True, "is_poetry": False}
MESSAGES: dict[str, Any] = {"problems": {}, "checked": 11, "has_rclpy": True, "ros_distro": "jazzy"}


@pytest.mark.parametrize(
    ("probe", "facts", "driver", "level", "words"),
    [
        (torch, ABSENT, NONE, Level.ABSENT, "not installed"),
        (torch, BROKEN, NONE, Level.FAILED, "installed, but cannot be imported: undefined symbol: y"),
        (torch, TORCH, GPU, Level.OK, "2.6.0 (CUDA 12.4, cuDNN 90100), cuda:0 computes"),
        (torch, TORCH | {"gpus": {"cuda:0": "no kernel image"}}, GPU, Level.FAILED, "cuda:0: no kernel image"),
        (torch, TORCH | {"cuda": None, "gpus": {}}, GPU, Level.WARNING, "(CPU only), though there is a GPU"),
        (torch, TORCH | {"cuda_is_available": False, "gpus": {}}, GPU, Level.WARNING, "serves CUDA up to 13.0"),
        (torch, TORCH | {"cuda_is_available": False, "gpus": {}}, NONE, Level.OK, "there is no NVIDIA driver"),
        (tensorrt, ABSENT | {"module": "tensorrt_lean"}, GPU, Level.ABSENT, "not installed"),
        (tensorrt, TRT | {"runtime": True, "can_build": True}, GPU, Level.OK, "built for CUDA 12, builds and runs"),
        (tensorrt, TRT | {"runtime": True, "can_build": False}, GPU, Level.OK, "CUDA 12, runs engines"),
        (tensorrt, TRT | {"start_error": "TypeError: none"}, NONE, Level.WARNING, "cannot start without an NVIDIA"),
        (tensorrt, TRT | {"start_error": "TypeError: none"}, GPU, Level.FAILED, "does not start: TypeError: none"),
        (tensorrt, TRT | {"runtime": False, "distributions": {}}, GPU, Level.FAILED, "a CUDA that it does not name"),
        (pycuda, ABSENT, NONE, Level.ABSENT, "not installed"),
        (pycuda, PYCUDA | {"gpus": ["A", "B"]}, GPU, Level.OK, "2024.1, built for CUDA 12.4.0, 2 GPUs"),
        (pycuda, PYCUDA | {"init_error": "no device"}, NONE, Level.FAILED, "built for CUDA 12.4.0: no device"),
        (cudnn, {"found": {"libcudnn.so.9": 90100}}, GPU, Level.OK, "libcudnn.so.9 (90100)"),
        (cudnn, {"found": {}}, GPU, Level.WARNING, "not found"),
        (cudnn, {"found": {}}, NONE, Level.ABSENT, "not found"),
        (onnxruntime, ABSENT, NONE, Level.ABSENT, "not installed"),
        (onnxruntime, ORT, GPU, Level.OK, "1.20.0, CUDAExecutionProvider loads and computes"),
        (onnxruntime, ORT | {"distributions": {"a": "1", "b": "1"}}, GPU, Level.FAILED, "2 builds installed over"),
        (onnxruntime, ORT | {"provider": "X"}, GPU, Level.ABSENT, "X: not in this build (it has CUDAExecution"),
        (onnxruntime, ORT | {"listed": [], "provider": "CPUExecutionProvider"}, GPU, Level.FAILED, "not in this build"),
        (onnxruntime, ORT | {"load_error": "no libcublas"}, GPU, Level.FAILED, "does not load: no libcublas"),
        (onnxruntime, ORT | {"loaded": ["CPUExecutionProvider"]}, GPU, Level.FAILED, "silently run on CPUExecution"),
        (onnxruntime, ORT | {"right": False}, GPU, Level.FAILED, "computes wrong results"),
        (ros, ABSENT | {"distributions": []}, NONE, Level.ABSENT, "not installed"),
        (ros, ABSENT | {"distributions": ["jazzy"]}, NONE, Level.ABSENT, "in /opt/ros (jazzy), but not sourced"),
        (ros, ROS, NONE, Level.OK, "jazzy, rclpy from a distribution (/opt/ros/jazzy/rclpy)"),
        (ros, ROS | {"ros_distro": None}, NONE, Level.OK, "ROS_DISTRO not set, rclpy from"),
        (ros, ROS | {"wheels": {"ros-rclpy": "7"}}, NONE, Level.WARNING, "wheels (/opt/ros/jazzy/rclpy), and /opt/ros"),
        (rmw, {"has_rclpy": False}, NONE, Level.ABSENT, "no rclpy, so no middleware"),
        (rmw, RMW, NONE, Level.OK, "rmw_fastrtps_cpp (installed: rmw_fastrtps_cpp)"),
        (rmw, RMW | {"requested": "rmw_x"}, NONE, Level.FAILED, "RMW_IMPLEMENTATION=rmw_x does not start"),
        (
            rmw,
            RMW | {"registered": [], "start_error": "two\n lines"},
            NONE,
            Level.FAILED,
            "(installed: none): two lines",
        ),
        (messages, MESSAGES | {"has_rclpy": False}, NONE, Level.ABSENT, "no rclpy, so no messages are needed"),
        (messages, MESSAGES, NONE, Level.OK, "all 11 that the nodes use"),
        (messages, MESSAGES | {"problems": {"a_b/C": "gone"}}, NONE, Level.FAILED, "a_b/C: gone"),
        (python, PYTHON, NONE, Level.OK, "3.11.7 (/usr/bin/python3)"),
        (python, PYTHON | {"version": "3.9.18"}, NONE, Level.FAILED, "3.9.18"),
        (python, PYTHON | {"is_poetry": True, "has_pip": False}, NONE, Level.WARNING, "Poetry environment without pip"),
        (opencv, ABSENT, NONE, Level.FAILED, "cannot be imported: No module named 'x'"),
        (opencv, {"version": "5.0.0", "distributions": {}}, NONE, Level.WARNING, "does not work with OpenCV 5"),
        (opencv, {"version": "4.10", "distributions": {"a": "", "b": ""}}, NONE, Level.WARNING, "2 builds installed"),
        (opencv, {"version": "4.10", "distributions": {}, "threads": 3}, NONE, Level.OK, "4.10, 3 threads"),
        (numpy, ABSENT, NONE, Level.FAILED, "cannot be imported: No module named 'x'"),
        (numpy, {"version": "2.1"}, NONE, Level.OK, "2.1"),
    ],
)
def test_what_was_seen_is_judged(probe: Any, facts: Facts, driver: Facts, level: Level, words: str) -> None:
    judgement = probe.judge(facts, driver)
    assert judgement.level is level
    assert words in judgement.summary
    assert level in (Level.OK, Level.ABSENT) or judgement.remedy, "what does not work comes with what to do"


@pytest.mark.parametrize(
    ("probe", "facts", "driver", "remedy"),
    [
        (tensorrt, ABSENT | {"module": "tensorrt_lean"}, GPU, "`pip install tensorrt-lean-cu13`"),
        (tensorrt, ABSENT | {"module": "tensorrt"}, NONE, "`pip install tensorrt-cu12`"),
        (cudnn, {"found": {}}, GPU, "`pip install nvidia-cudnn-cu13`"),
        (rmw, RMW | {"requested": "rmw_x", "start_error": "no"}, NONE, "`export RMW_IMPLEMENTATION=rmw_fastrtps_cpp`"),
        (messages, MESSAGES | {"problems": {"a_b/C": "gone"}}, NONE, "`sudo apt install ros-jazzy-a-b`"),
        (ros, ABSENT | {"distributions": ["jazzy"]}, NONE, "`source /opt/ros/jazzy/setup.bash`"),
    ],
)
def test_the_remedy_fits_the_machine(probe: Any, facts: Facts, driver: Facts, remedy: str) -> None:
    assert remedy in probe.judge(facts, driver).remedy


def test_a_library_that_aborts_after_its_answer_is_a_warning() -> None:
    finding = judged("numpy", "numpy", Outcome({"version": "2.1"}, "was killed by SIGABRT", "", 1.0), NONE)
    assert finding.level is Level.WARNING
    assert finding.summary == "2.1; but the process was killed by SIGABRT after that"
    silent = judged("numpy", "numpy", Outcome(None, None, "", 1.0), NONE)
    assert (silent.level, silent.summary) == (Level.FAILED, "its process said nothing")
    assert silent.remedy is not None and "trt_perception.doctor.probes.numpy" in silent.remedy
