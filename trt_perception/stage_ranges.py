"""Names the stages of a frame for Nsight Systems, where the package nvtx is installed; else it does nothing."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_DOMAIN = "trt_perception"
_NOTHING: AbstractContextManager[None] = nullcontext()


def stage(name: str) -> AbstractContextManager[Any]:
    """`with stage("inference"):` is a range of that name on the timeline."""
    nvtx = _nvtx()
    return _NOTHING if nvtx is None else nvtx.annotate(name, domain=_DOMAIN)


@functools.cache
def _nvtx() -> Any:
    try:
        import nvtx
    except ImportError:
        return None
    # A folder of that name on the path is importable too.
    return nvtx if hasattr(nvtx, "annotate") else None
