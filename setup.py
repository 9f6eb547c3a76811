"""Installs trt_perception: as an ament_python package (colcon) and as an ordinary Python package (pip)."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "trt_perception"
SHARE = f"share/{PACKAGE}"


def shared_files(folder: str) -> list[tuple[str, list[str]]]:
    """Lists the files under `folder` as data_files entries that keep their sub-folders below share/."""
    by_folder: dict[str, list[str]] = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            by_folder.setdefault(f"{SHARE}/{path.parent.as_posix()}", []).append(path.as_posix())
    return list(by_folder.items())


setup(
    name=PACKAGE,
    version="0.1.0",
    description="ROS 2 object detection that reports its latency as a share of the control period",
    license="Apache-2.0",
    maintainer="trt_perception maintainers",
    maintainer_email="maintainers@trt-perception.example.com",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "data/*", "data/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (SHARE, ["package.xml"]),
        *shared_files("launch"),
        *shared_files("config"),
    ],
    python_requires=">=3.10",
    install_requires=["numpy>=1.21", "opencv-python-headless>=4.5,<5", "PyYAML>=5.4", "rich>=10"],
    extras_require={
        "picture": ["matplotlib>=3.5"],
        "onnxruntime": ["onnxruntime>=1.16"],
        "onnxruntime-gpu": ["onnxruntime-gpu>=1.16"],
        "inspect": ["onnx>=1.13"],
        "torch": ["torch>=2.0"],
        "tensorrt": ["tensorrt>=8.5", "pycuda>=2022.1", "onnx>=1.13"],
        # Without this entry `colcon test` runs no test at all and calls it a success.
        "test": ["pytest"],
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "trt-perception = trt_perception.cli.main:main",
            "detector_node = trt_perception.ros.start:detector_node",
            "camera_node = trt_perception.ros.start:camera_node",
            "budget_monitor_node = trt_perception.ros.start:budget_monitor_node",
        ],
    },
)
