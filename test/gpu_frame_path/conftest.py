"""Every test here needs an NVIDIA GPU with torch or ONNX Runtime for it, and skips with the reason where it is missing.

TensorRT is not needed; its tests are in test/gpu.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_perception.backends.cuda_frames.driver import require_gpu
from trt_perception.errors import BackendUnavailableError

_folder = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _folder in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True, scope="session")
def gpu() -> None:
    try:
        require_gpu(0)
    except BackendUnavailableError as error:
        pytest.skip(f"no CUDA device: {error}")
