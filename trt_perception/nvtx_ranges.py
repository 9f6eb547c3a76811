"""Names the stages for NVIDIA's Nsight Systems, where the Python package nvtx is installed; else it does nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

_DOMAIN = "trt_perception"
_NOTHING = nullcontext()


def stage_range(name: str) -> AbstractContextManager[object]:
    """What happens inside it is shown under that name in a trace of `nsys profile`."""
    annotate = _annotate()
    return _NOTHING if annotate is None else annotate(name, domain=_DOMAIN)


@cache
def _annotate() -> Any:
    try:
        import nvtx
    except ImportError:
        return None
    return nvtx.annotate
