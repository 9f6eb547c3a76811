"""torch's profile of every operator while a backend is open, as a trace in Chrome's format."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from trt_perception.errors import BackendError


class TorchProfile:
    """Of all threads: a node opens, runs and closes a backend on different ones."""

    def __init__(self, torch: Any, notes: list[str]) -> None:
        """Begins it. notes: get what an older torch cannot do."""
        self._torch = torch
        try:
            every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
        except (AttributeError, TypeError):  # older than torch 2.7
            notes.append(f"torch {torch.__version__} profiles the thread alone that opened the backend")
            every_thread = None
        self._profiler = torch.profiler.profile(record_shapes=True, experimental_config=every_thread)
        self._profiler.start()
        # torch ends the process where a profile of one thread is stopped by another.
        self._only_by = threading.get_ident() if every_thread is None else None

    def run(self) -> AbstractContextManager[object]:
        """The block of one inference, under the name that ONNX Runtime's profile has for it."""
        mark: AbstractContextManager[object] = self._torch.profiler.record_function("model_run")
        return mark

    def stop(self) -> bool:
        """Ends it; False, and it goes on, in a thread that may not."""
        if self._only_by not in (None, threading.get_ident()):
            return False
        self._profiler.stop()
        return True

    def write(self, target: Path) -> None:
        """Into that file; raises BackendError."""
        # torch says nothing where it cannot write, so that the file's absence has to.
        written = target.with_name(f".new-{target.name}")
        self._profiler.export_chrome_trace(str(written))
        try:
            written.replace(target)
        except OSError as error:
            raise BackendError(f"the profile cannot be written to {target} ({error.strerror})") from error
