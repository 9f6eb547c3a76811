"""The CUDA driver's calls done by the processor (test/cuda/driver_on_processor.cpp), for the logic around kernels."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.cuda.compile_kernels import FOLDER
from trt_perception.backends.cuda_frames import driver, session

SOURCES = Path(__file__).parent / "cuda"
_CACHES = (driver._library, driver._library_that_keeps_the_lock, session._primary_context)


def compile_for_the_processor(source: str, target: Path) -> Path:
    """A shared library of one file of test/cuda; g++ is among what the set-up asks for."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.fail("g++ is not installed: sudo apt install g++")
    # No contraction: the GPU's code has none either.
    flags = ("-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{FOLDER}", f"-I{SOURCES}")
    subprocess.run([compiler, *flags, str(SOURCES / source), "-o", str(target)], check=True)
    return target


@contextmanager
def driver_on_processor(library: Path) -> Iterator[ctypes.CDLL]:
    """The package's CUDA calls go to that library inside the block."""
    before = driver._LIBRARY
    driver._LIBRARY = str(library)
    for cache in _CACHES:
        cache.cache_clear()
    try:
        yield ctypes.CDLL(str(library))
    finally:
        driver._LIBRARY = before
        for cache in _CACHES:
            cache.cache_clear()
