"""The doctor in planted situations: fake packages that come first on PYTHONPATH, as a broken environment has them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from test.commands import trt_perception
from trt_perception.doctor.child import run_probe
from trt_perception.doctor.examine import PROBES, judged
from trt_perception.doctor.findings import Facts, Finding, Level

Plant = Callable[[str, str], None]
NO_DRIVER: Facts = {}
CUDA_12_4: Facts = {"newest_cuda": "12.4", "gpus": [{"name": "a GPU"}]}

needs_ros = pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="rclpy is not installed")


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Puts a module in front of all others, for the child processes that a test starts."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name: str, code: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")

    return write


def find(probe: str, *, driver: Facts = NO_DRIVER, time_limit_s: float = 60.0) -> Finding:
    module, argument = PROBES[probe]
    return judged(probe, module, run_probe(f"trt_perception.doctor.probes.{module}", argument, time_limit_s), driver)


def distribution(plant: Plant, name: str, version: str) -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    plant(f"{name.replace('-', '_')}-{version}.dist-info/METADATA", metadata)


def fake_onnxruntime(plant: Plant, providers: list[str], actual: list[str], says: str = "") -> None:
    plant(
        "onnxruntime/__init__.py",
        f"""
import sys
__version__ = "1.20.0"
def get_available_providers():
    return {providers}
def set_default_logger_severity(level):
    pass
class InferenceSession:
    def __init__(self, *arguments, **options):
        print({says!r}, file=sys.stderr)
    def get_providers(self):
        return {actual}
    def run(self, names, feed):
        return [feed["x"] * 2]
""",
    )


# --- libraries that are missing, or abort, or hang ------------------------------------------------------------


def test_no_torch(plant: Plant) -> None:
    # An import of it fails as it does where it is not installed.
    plant(
        "sitecustomize.py",
        """
import sys
class No:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, No())
""",
    )
    finding = find("torch")
    assert finding.level is Level.ABSENT
    assert finding.summary == "not installed"
    assert finding.remedy == "if you want it: `pip install torch`"
    done = trt_perception(["doctor", "--backend", "torchscript:cpu", "--json"])
    assert done.returncode == 1, done.stderr
    (verdict,) = json.loads(done.stdout)["backends"]
    assert verdict["can_run"] is False
    assert "needs the Python package torch" in verdict["summary"]
    assert "`pip install torch`" in verdict["summary"]


def test_a_tensorrt_whose_import_aborts_is_a_finding(plant: Plant) -> None:
    distribution(plant, "tensorrt-cu13", "10.13.2.6")
    plant(
        "tensorrt/__init__.py", "import os, sys\nprint('terminate called', file=sys.stderr, flush=True)\nos.abort()\n"
    )
    finding = find("tensorrt")
    assert finding.level is Level.FAILED
    assert finding.summary == "its process was killed by SIGABRT (terminate called)"
    assert finding.remedy is not None and "install it again" in finding.remedy


def test_a_tensorrt_that_hangs_is_a_finding_and_ends(plant: Plant, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    plant(
        "tensorrt/__init__.py",
        "import os, pathlib, subprocess, sys, time\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{helper.pid}}')\n"
        "time.sleep(600)\n",
    )
    start_s = time.monotonic()
    finding = find("tensorrt", time_limit_s=5.0)
    assert time.monotonic() - start_s < 20
    assert finding.level is Level.FAILED
    assert finding.summary == "its process did not answer within 5 s"
    for pid in pids.read_text().split():  # what it started is gone too
        state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
        assert not state.strip() or state.startswith("Z")


def test_a_library_that_aborts_after_it_has_answered_keeps_its_facts(plant: Plant) -> None:
    plant("pycuda/__init__.py", "")
    plant(
        "pycuda/driver.py",
        """
import atexit, os
__version__ = "1"
Error = OSError
get_version = lambda: (12, 4)
init = lambda: None
atexit.register(os.abort)
class Device:
    count = staticmethod(lambda: 0)
""",
    )
    finding = find("pycuda")
    assert finding.level is Level.WARNING
    assert finding.facts["built_for_cuda"] == "12.4"
    assert finding.summary.endswith("but the process was killed by SIGABRT after that")


# --- the three failures that have names -----------------------------------------------------------------------


def test_tensorrt_for_another_cuda_is_error_35(plant: Plant) -> None:
    distribution(plant, "tensorrt-cu13", "10.13.2.6")
    plant(
        "tensorrt/__init__.py",
        """
import sys
__version__ = "10.13.2.6"
class Logger:
    WARNING = 2
    def __init__(self, level): ...
def Runtime(logger):
    print("[TRT] [W] CUDA initialization failure with error: 35", file=sys.stderr)
    raise TypeError("pybind11::init(): factory function returned nullptr")
Builder = Runtime
""",
    )
    finding = find("tensorrt", driver=CUDA_12_4)
    assert finding.level is Level.FAILED
    assert finding.known_as == "TensorRT for another CUDA (error 35)"
    assert "10.13.2.6, built for CUDA 13" in finding.summary
    assert finding.remedy is not None
    assert "newest: 12.4" in finding.remedy and "pip install tensorrt-cu12" in finding.remedy


def test_cuda_provider_without_cudnn_9(plant: Plant) -> None:
    fake_onnxruntime(
        plant,
        ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ["CPUExecutionProvider"],
        says="[E:onnxruntime] Failed to load library libonnxruntime_providers_cuda.so with error: libcudnn.so.9: "
        "cannot open shared object file: No such file or directory",
    )
    finding = find("onnxruntime cuda", driver=CUDA_12_4)
    assert finding.level is Level.FAILED
    assert finding.known_as == "CUDA provider without cuDNN 9"
    assert "silently run on CPUExecutionProvider" in finding.summary
    assert finding.remedy is not None and "nvidia-cudnn-cu12" in finding.remedy


def test_a_build_that_needs_pip_under_poetry(tmp_path: Path) -> None:
    log = tmp_path / "poetry.log"
    log.write_text("  Installing tensorrt (8.6.1): Failed\n  /tmp/x/bin/python: No module named pip\n")
    done = trt_perception(["doctor", "--log", log])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("build needs pip, which Poetry leaves out\n")
    assert "ensurepip" in done.stdout
    log.write_text("all is well\n")
    done = trt_perception(["doctor", "--log", log])
    assert (done.returncode, done.stdout) == (1, "no known failure in it\n")


def test_a_tensorrt_that_was_built_without_pip_lacks_its_libraries(plant: Plant) -> None:
    plant("tensorrt/__init__.py", "import tensorrt_bindings\n")
    finding = find("tensorrt")
    assert finding.known_as == "build needs pip, which Poetry leaves out"


# --- ONNX Runtime, as it really loads -------------------------------------------------------------------------


def test_onnxruntime_without_cuda(plant: Plant) -> None:
    fake_onnxruntime(plant, ["AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"])
    assert find("onnxruntime cpu").level is Level.OK
    finding = find("onnxruntime cuda", driver=CUDA_12_4)
    assert finding.level is Level.ABSENT
    assert "not in this build (it has AzureExecutionProvider, CPUExecutionProvider)" in finding.summary
    assert finding.remedy is not None and "pip install onnxruntime-gpu" in finding.remedy


def test_two_builds_of_onnxruntime_over_each_other(plant: Plant) -> None:
    fake_onnxruntime(plant, ["CPUExecutionProvider"], ["CPUExecutionProvider"])
    distribution(plant, "onnxruntime-gpu", "1.20.0")
    distribution(plant, "onnxruntime", "1.20.0")
    finding = find("onnxruntime cpu")
    assert finding.level is Level.FAILED
    assert "2 builds installed over each other (onnxruntime, onnxruntime-gpu)" in finding.summary


def test_the_real_onnxruntime_computes() -> None:
    finding = find("onnxruntime cpu")
    assert finding.level is Level.OK, finding
    assert finding.facts["loaded"] == ["CPUExecutionProvider"]


# --- ROS ------------------------------------------------------------------------------------------------------


@needs_ros
def test_the_real_messages_and_middleware_are_right() -> None:
    for probe in ("messages", "rmw", "ros"):
        finding = find(probe)
        assert finding.level is Level.OK, finding


@needs_ros
def test_wrong_message_packages(plant: Plant) -> None:
    # vision_msgs before version 4: id and score stood elsewhere, and there was no LabelInfo.
    plant("vision_msgs/__init__.py", "")
    plant(
        "vision_msgs/msg/__init__.py",
        """
class Meta(type):
    _TYPE_SUPPORT = object()
def message(**fields):
    return Meta("Message", (), {"get_fields_and_field_types": classmethod(lambda cls: fields)})
Detection2DArray = message(header="std_msgs/Header", detections="sequence<vision_msgs/Detection2D>")
Detection2D = message(header="std_msgs/Header", results="sequence<vision_msgs/ObjectHypothesisWithPose>",
                      bbox="vision_msgs/BoundingBox2D", source_img="sensor_msgs/Image")
ObjectHypothesis = message(id="string", score="double")
BoundingBox2D = message(center="geometry_msgs/Pose2D", size_x="double", size_y="double")
""",
    )
    finding = find("messages")
    assert finding.level is Level.FAILED
    assert "vision_msgs/Detection2D: id is missing, expected string" in finding.summary
    assert "vision_msgs/BoundingBox2D: center is geometry_msgs/Pose2D, expected vision_msgs/Pose2D" in finding.summary
    assert "vision_msgs/LabelInfo: AttributeError" in finding.summary
    assert "pal_statistics_msgs" not in finding.summary
    assert finding.remedy is not None and "ros-jazzy-vision-msgs" in finding.remedy


@needs_ros
def test_a_middleware_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_zenoh_cpp")
    finding = find("rmw")
    assert finding.level is Level.FAILED
    assert "RMW_IMPLEMENTATION=rmw_zenoh_cpp does not start (installed: rmw_fastrtps_cpp)" in finding.summary
    assert finding.remedy is not None
    assert "export RMW_IMPLEMENTATION=rmw_fastrtps_cpp" in finding.remedy
    assert "ros-jazzy-rmw-zenoh-cpp" in finding.remedy
    # rcl ends every process that loads it under such a name; the look at rclpy survives that and says so.
    assert find("ros").known_as == "RMW that is not installed"


# --- the command ----------------------------------------------------------------------------------------------


def document(*arguments: str) -> tuple[int, Any]:
    done = trt_perception(["doctor", "--json", *arguments])
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_command_says_that_the_default_backend_runs() -> None:
    code, report = document("--backend", "onnxruntime:cpu")
    assert code == 0
    assert report["can_run"] is True
    (verdict,) = report["backends"]
    assert verdict["backend"] == "onnxruntime:cpu"
    assert verdict["facts"]["device"] == "cpu"
    assert [finding["probe"] for finding in report["findings"]] == list(PROBES)


def test_one_wanted_backend_that_cannot_run_is_exit_code_1() -> None:
    code, report = document("--backend", "onnxruntime:cpu", "--backend", "nosuch")
    assert code == 1
    assert [verdict["can_run"] for verdict in report["backends"]] == [True, False]
    assert "there is no backend 'nosuch'" in report["backends"][1]["summary"]


def test_for_people() -> None:
    done = trt_perception(["doctor"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("onnxruntime:cpu ") and "can run" in line for line in lines)
    assert any(line.startswith("numpy ") and " ok " in line for line in lines)


def test_it_starts_without_opencv(plant: Plant) -> None:
    plant("cv2/__init__.py", "raise ImportError('libGL.so.1: cannot open shared object file')\n")
    code, report = document("--backend", "onnxruntime:cpu")
    assert code == 1
    (opencv,) = [finding for finding in report["findings"] if finding["probe"] == "opencv"]
    assert opencv["level"] == "failed"
    assert "libGL.so.1" in opencv["summary"]
    assert "opencv-python-headless" in opencv["remedy"]
