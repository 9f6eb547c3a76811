"""Camera frames in page-locked memory, for every interpreter: the NVIDIA driver is all that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from trt_perception.backends.cuda_frames.session import FrameSession
from trt_perception.types import Uint8Array


@dataclass(frozen=True, eq=False)
class LockedFrame:
    """pixels: uint8 (height, width, 3) at the address `host`; device: as many bytes there."""

    pixels: Uint8Array
    host: int
    device: int


@contextmanager
def locked_frames(frames: Sequence[Uint8Array]) -> Iterator[tuple[FrameSession, list[LockedFrame]]]:
    """Copies of the frames, and the session whose stream copies them; both end with the block."""
    with ExitStack() as stack:
        session = FrameSession(0)
        stack.callback(session.close)
        with session.current():
            locked = [_locked(session, stack, frame) for frame in frames]
        yield session, locked


def _locked(session: FrameSession, stack: ExitStack, frame: Uint8Array) -> LockedFrame:
    host, device = session.host_memory(frame.nbytes), session.device_memory(frame.nbytes)

    def free() -> None:
        with session.current():
            host.close()
            device.close()

    stack.callback(free)
    pixels = host.array.reshape(frame.shape)
    pixels[...] = frame
    return LockedFrame(pixels, host.address, device.address)
