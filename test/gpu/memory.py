"""Whether work leaves device memory behind, on a GPU that others use as well."""

from __future__ import annotations

from collections.abc import Callable

from trt_perception.backends.cuda_frames.session import FrameSession

# The driver hands memory out in blocks of this size.
BLOCK = 2 << 20
_TRIES = 3


def left_behind(work: Callable[[], None]) -> int:
    """Bytes by which less memory is free after the work than before.

    Where that is more than a block it is done again, and the least counts: a leak is there every time, and what another
    process takes is not.
    """
    session = FrameSession(0)
    tries = []
    for _ in range(_TRIES):
        before = session.free_bytes()
        work()
        tries.append(before - session.free_bytes())
        if tries[-1] <= BLOCK:
            break
    session.close()
    return min(tries)
