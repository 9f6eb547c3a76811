"""One process at a time: a lock that the kernel frees when its holder ends, however that happens."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trt_perception.errors import WriteError


@contextmanager
def file_lock(target: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of `target` (a hidden file beside it, gone afterwards); waits while another process has it.

    Of a process that is killed the empty file stays, not the lock; the next holder takes it away.

    on_wait: called once if it has to wait. Raises WriteError where no file can be written.
    """
    lock = target.with_name(f".{target.name}.lock")
    handle = _locked(lock, on_wait)
    try:
        yield
    finally:
        # What was done under the lock counts, also where the folder has become read-only meanwhile.
        with suppress(OSError):
            lock.unlink()
        os.close(handle)


def _locked(lock: Path, on_wait: Callable[[], None]) -> int:
    told = False
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise WriteError(
                f"{lock} cannot be written ({error.strerror}); choose a folder that can be written"
            ) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    on_wait()
                told = True
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Its last holder took the file away: what is locked then is a file that nobody else will find.
            if _is_at(handle, lock):
                return handle
        except OSError as error:
            os.close(handle)
            raise WriteError(
                f"{lock} cannot be locked ({error.strerror}); choose a folder on a local file system"
            ) from error
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)
