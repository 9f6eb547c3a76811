"""Optional real-time settings of the detector's process: which cores, which priority, memory that stays in RAM.

They hold for every thread of the process: a frame passes through those of the middleware, of the executor, of inference
and of the backend's library.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trt_perception.errors import PerceptionError

# From <sys/mman.h> and <linux/capability.h>.
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_CAP_IPC_LOCK = 14
ANY_CORE = -1


@dataclass(frozen=True)
class RealTimeSettings:
    """cores: numbers of those that the process may run on, empty for any. priority: of SCHED_FIFO, 1-99, 0 for the
    system's usual scheduler. lock_memory: no page of the process, now or later, is swapped out or loaded late.
    """

    cores: frozenset[int] = frozenset()
    priority: int = 0
    lock_memory: bool = False

    @property
    def wanted(self) -> bool:
        """False where nothing is asked for."""
        return bool(self.cores) or self.priority > 0 or self.lock_memory


class RealTime:
    """Applies settings between apply() and undo()."""

    def __init__(self, settings: RealTimeSettings) -> None:
        self.settings = settings
        # The cores that the process had at first: it cannot be compared with what it narrowed itself.
        self._cores_before: set[int] | None = None

    def apply(self) -> None:
        """Sets them for every thread that there is now; threads made later by these inherit them.

        Libraries may give threads that they make cores of their own: call it again when a model was opened. Raises
        PerceptionError that says which right is missing or which core there is not; nothing is left half set.
        """
        settings = self.settings
        if not settings.wanted:
            return
        self._cores_before = self._cores_before or set(os.sched_getaffinity(0))
        try:
            if settings.cores:
                _require_cores(settings.cores, self._cores_before)
                _for_every_thread("cpu_affinity", lambda thread: os.sched_setaffinity(thread, settings.cores))
            if settings.priority:
                _for_every_thread("scheduler_priority", self._prioritise)
            if settings.lock_memory:
                _lock_memory()
        except PerceptionError:
            self.undo()
            raise

    def undo(self) -> None:
        """As it was before apply(); without that it does nothing."""
        cores, self._cores_before = self._cores_before, None
        if cores is None:
            return
        with suppress(PerceptionError):
            _for_every_thread("cpu_affinity", lambda thread: os.sched_setaffinity(thread, cores))
            if self.settings.priority:
                _for_every_thread("scheduler_priority", _usual_scheduler)
        if self.settings.lock_memory:
            ctypes.CDLL(None).munlockall()

    def read_back(self) -> dict[str, object]:
        """What the system says is in force, for /diagnostics; empty where nothing is asked for."""
        if not self.settings.wanted:
            return {}
        threads = _threads()
        cores = [_of_thread(lambda t: ",".join(map(str, sorted(os.sched_getaffinity(t)))), t) for t in threads]
        priorities = [_of_thread(_priority, t) for t in threads]
        return {
            "cpu_affinity": " ".join(sorted(set(filter(None, cores)))),
            "scheduler_priority": " ".join(sorted(set(filter(None, priorities)))),
            "locked_memory_mb": _locked_bytes() / 1e6,
        }

    def _prioritise(self, thread: int) -> None:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(self.settings.priority))


def _threads() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/task").iterdir()]


def _for_every_thread(parameter: str, change: Callable[[int], None]) -> None:
    for thread in _threads():
        try:
            change(thread)
        except ProcessLookupError:
            continue  # it has ended meanwhile
        except OSError as error:
            raise PerceptionError(f"{parameter} cannot be set ({error.strerror}): {_REMEDIES[parameter]}") from error


_REMEDIES = {
    "cpu_affinity": "name cores that this process may use, or leave it out",
    "scheduler_priority": (
        "the process needs CAP_SYS_NICE, or a limit on real-time priority that is high enough (`ulimit -r`, rtprio in "
        "/etc/security/limits.conf, LimitRTPRIO= of systemd, --cap-add SYS_NICE of a container); or set it to 0"
    ),
}


def _require_cores(cores: Set[int], allowed: Set[int]) -> None:
    """The kernel takes a mask of which it knows one core, and leaves the others out without a word."""
    strangers = ", ".join(map(str, sorted(cores - allowed)))
    if strangers:
        raise PerceptionError(
            f"cpu_affinity cannot be set (no core {strangers} for this process): name cores among those that this "
            f"process may use, {','.join(map(str, sorted(allowed)))}, or {ANY_CORE} alone for any"
        )


def _usual_scheduler(thread: int) -> None:
    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _lock_memory() -> None:
    remedy = (
        "the process needs CAP_IPC_LOCK, or no limit on locked memory (`ulimit -l unlimited`, memlock in "
        "/etc/security/limits.conf, LimitMEMLOCK=infinity of systemd, --ulimit memlock=-1 of a container); or set it "
        "to false"
    )
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # Below a limit it may succeed now and make an allocation fail in the middle of the work.
    if limit != resource.RLIM_INFINITY and not _has_capability(_CAP_IPC_LOCK):
        raise PerceptionError(f"lock_memory cannot be set (at most {limit} bytes may be locked): {remedy}")
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        raise PerceptionError(f"lock_memory cannot be set ({os.strerror(ctypes.get_errno())}): {remedy}")


def _has_capability(number: int) -> bool:
    return bool(int(_own_status("CapEff"), 16) >> number & 1)


def _locked_bytes() -> int:
    return int(_own_status("VmLck").split()[0]) * 1024


def _own_status(name: str) -> str:
    """A line of /proc/self/status, see proc(5)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def _of_thread(read: Callable[[int], str], thread: int) -> str | None:
    with suppress(ProcessLookupError):
        return read(thread)
    return None


def _priority(thread: int) -> str:
    name = {os.SCHED_FIFO: "FIFO", os.SCHED_RR: "RR", os.SCHED_OTHER: "OTHER"}.get(os.sched_getscheduler(thread), "?")
    return f"{name}:{os.sched_getparam(thread).sched_priority}"
